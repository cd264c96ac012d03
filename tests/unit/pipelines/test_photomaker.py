"""The program `photomaker`: lists its commands, explains them, completes words, and corrects a wrong one."""

import re
import subprocess
from pathlib import Path

import pytest

from pipelines._commands import OTHERS, commands
from pipelines._completion import main as completion
from pipelines._completion import words
from pipelines._photomaker import main

COMMANDS = [name for name in commands() if name not in OTHERS]


@pytest.fixture
def photomaker(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["/bin/photomaker", *arguments])
        main()
        return capsys.readouterr().out

    return call


def test_alone_it_lists_the_commands(photomaker):
    shown = photomaker()
    assert shown == photomaker("--help")
    for name in (
        "preprocess",
        "train",
        "generate",
        "evaluate",
        "votes",
        "export",
        "push",
        "serve",
        "list",
        "browse",
        "forget",
        *OTHERS,
    ):
        assert re.search(rf"^  {name} +\S.+\.$", shown, re.M), name


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_and_the_settings_with_their_comments(photomaker, name):
    shown = photomaker(name, "--help")
    assert f"\n  photomaker {name} " in shown and f"photomaker {name} --cfg job" in shown
    conf = Path(__file__).resolve().parents[3] / "conf" / f"{name}.yaml"
    for key, value, comment in re.findall(r"^(\w+): (\S.*?) # (.+)$", conf.read_text(), re.M):
        key = "dataset" if key == "data" and name in ("browse", "forget") else key  # as it is typed
        assert any(line.strip().startswith(f"{key}={value}") and comment in line for line in shown.splitlines()), key


def test_help_of_a_script_names_the_script(monkeypatch, capsys):
    from pipelines.export import main as export

    monkeypatch.setattr("sys.argv", ["pipelines/export.py", "-h"])
    export()
    assert "python pipelines/export.py checkpoint=" in capsys.readouterr().out


def test_a_wrong_command_names_the_right_one(photomaker):
    with pytest.raises(SystemExit, match="no command 'genrate'; did you mean generate.* There are preprocess, train,"):
        photomaker("genrate")


def test_keys_are_made_in_the_programs_name(photomaker, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert photomaker("keys", "add", "alice").startswith("pm-") and "alice" in photomaker("keys", "list")
    with pytest.raises(SystemExit):
        photomaker("keys", "--help")
    assert "usage: photomaker keys" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "word", "found"),
    [
        ("", "ex", ["export"]),
        ("completion", "", ["bash", "zsh", "fish"]),
        ("train", "engine=zero3", ["engine=zero3", "engine=zero3_offload"]),
        ("generate", "sampler.ne", ["sampler.negative_prompt="]),
        ("generate", "check_base=", ["check_base=true", "check_base=false"]),
        ("generate", "adapter=", []),
        ("nonsense", "a", []),
        ("keys", "a", []),
    ],
)
def test_words_that_can_follow(command, word, found):
    assert words(command, word) == found


def test_bash_completes(tmp_path, capsys):
    """Its script in a real bash, which splits words at `=`; the program is a stand-in that answers as ours does."""
    completion(["bash"])
    script = capsys.readouterr().out
    (tmp_path / "photomaker").write_text(
        '#!/bin/sh\nprintf "%s|" "$@" > "$0.called"\necho engine=zero1; echo engine=zero2\n'
    )
    (tmp_path / "photomaker").chmod(0o755)
    line = "photomaker train engine=z"
    program = f"""PATH={tmp_path}:$PATH; compopt() {{ :; }}; {script}
    COMP_LINE='{line}' COMP_POINT={len(line)} COMP_WORDS=(photomaker train engine = z) COMP_CWORD=4
    _photomaker; printf '%s\\n' "${{COMPREPLY[@]}}" """
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["zero1", "zero2"], done.stderr
    assert (tmp_path / "photomaker.called").read_text() == "completion|words|train|4|engine=z|"


@pytest.mark.parametrize("arguments", [[], ["powershell"], ["bash", "zsh"]])
def test_a_shell_without_completion(arguments):
    with pytest.raises(SystemExit, match=r"photomaker completion bash\|zsh\|fish"):
        completion(arguments)
