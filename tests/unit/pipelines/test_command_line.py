"""Settings as people type them reach the configuration as they were meant, through Hydra's own parser."""

import sys
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
import yaml
from annotated_types import MinLen
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Sweep

from pipelines._command_line import as_typed, rewrite
from pm.data.config import PreprocessConfig
from pm.errors import ConfigError
from pm.sample.config import GenerateConfig
from pm.train.run.config import RunConfig
from serving.compose import composed


@dataclass(frozen=True)
class Inner:
    path: str | None
    share: float


@dataclass(frozen=True)
class Settings:
    text: str
    maybe: Annotated[str, MinLen(1)] | None
    many: tuple[str, ...]
    numbers: tuple[int, ...] | None
    rule: Literal["a", "b"]
    either: bool | str
    inner: Inner | None
    files: dict[str, str]


def read(setting: str):
    """What Hydra makes of one setting; a sweep is the list of its elements."""
    override = OverridesParser.create().parse_override(as_typed(setting, Settings, {"extra": str}))
    assert not isinstance(override._value, Sweep), setting
    return override.value()


def swept(setting: str, declared: type = Settings):
    """The values of a sweep, each as Hydra's sweeper hands it to a cell of its own."""
    parser = OverridesParser.create()
    override = parser.parse_override(as_typed(setting, declared, {}, sweep=True))
    return [parser.parse_override(f"x={value}").value() for value in override.sweep_string_iterator()]


AS_TYPED = [
    "plain",
    "фото.png",
    "photo (1).png",
    "photo (1",
    "runs/epoch=9-step=100.safetensors",
    "runs/#1",
    "/home/José/photos",
    "/data/a,b",
    "2024_01_01",
    "1e5",
    "007",
    "0x10",
    "true",
    "NaN",
    "[a man] img",
    "[a,b]",
    "{x: 1}",
    'a man\'s img, "so to say" (old): {x} = 5 $HOME & co.; 100 % | ~\\',
    "'a' and 'b'",
    "it's",
    'say "hello',
    "two\nlines\tand a tab",
    "back\\slash\\",
    "\\'",
    "a  b",
    "😀 img",
    "s3://bucket/photos?region=eu&x=1",
    "http://[::1]:80/a",
    "portrait(x)",
    "a=b=c",
    "=",
    ",",
    "#",
    "!",
]


@pytest.mark.parametrize("value", AS_TYPED)
def test_text_is_what_was_typed(value):
    for key in ("text", "maybe", "inner.path", "files.mine", "+files.new", "++text", "extra", "many.0"):
        assert read(f"{key}={value}") == value
    assert read(f"many=['x',{value!r}]" if "\\" not in value and "\n" not in value else "many=[x]")[0] == "x"


@pytest.mark.parametrize("value", [v for v in AS_TYPED if v not in (",", "[a,b]", "/data/a,b") and "," not in v])
def test_lists_of_text_are_what_was_typed(value):
    assert read(f"many=[{value}]") == [value]
    if not value.endswith("\\"):  # which would escape the comma
        assert read(f"many=[first, {value},last]") == ["first", value, "last"]
    if not value.startswith("["):
        assert read(f"many={value}") == [value]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("text='quoted, with commas'", "quoted, with commas"),
        ('text="it\'s"', "it's"),
        (r"text=escaped\, comma", "escaped, comma"),
        (r"text=epoch\=9.safetensors", "epoch=9.safetensors"),
        ("text=${oc.env:HOME}/x", "${oc.env:HOME}/x"),
        ("text=runs/${inner.path} (1)", "runs/${inner.path} (1)"),
        ("text=", ""),
        ("maybe=null", None),
        ("many=[]", []),
        ("many=null", None),
        ("many=a.png,b c.png", ["a.png", "b c.png"]),
        ("many=['a, b.png',c.png]", ["a, b.png", "c.png"]),
        ("many=[a (1, 2).png,b.png]", ["a (1, 2).png", "b.png"]),
        ("many=${other}", "${other}"),
        ("numbers=[1,2]", [1, 2]),
        ("rule=a", "a"),
        ("either=true", True),
        ("inner.share=1e5", 1e5),
        ("files={a: x, b: y}", {"a": "x", "b": "y"}),
        ("unknown.key=2024_01_01", 20240101),  # nothing says that it is text
        ("unknown.key=фото", "фото"),
        ("+unknown=[1,2]", [1, 2]),
    ],
)
def test_hydras_grammar_goes_on_working(setting, value):
    assert read(setting) == value


def test_a_tilde_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/José (1)")
    assert read("text=~/me.png") == "/home/José (1)/me.png" and read("many=[~/a.png,~]") == [
        "/home/José (1)/a.png",
        "/home/José (1)",
    ]
    assert read("many=~/a.png") == ["/home/José (1)/a.png"] and read("text=a~b") == "a~b"


@pytest.mark.parametrize(
    ("setting", "values"),
    [
        ("maybe=a/b.safetensors,null", ["a/b.safetensors", None]),
        ("text=epoch=1.safetensors,epoch=2.safetensors", ["epoch=1.safetensors", "epoch=2.safetensors"]),
        ("text=2024_01_01,1e5", ["2024_01_01", "1e5"]),
        ("text='a, b',c", ["a, b", "c"]),
        (r"text=a\,b,c", ["a,b", "c"]),
        ("text=фото (1).png,it's", ["фото (1).png", "it's"]),
        ("many=[a,b (1)],[c]", [["a", "b (1)"], ["c"]]),
        ("many=a,b", [["a"], ["b"]]),
        ("text=choice(a,b)", ["a", "b"]),
        ("numbers=[1,2],[3]", [[1, 2], [3]]),
        ("inner.share=1,2.5", [1, 2.5]),
        ("inner.share=range(1,3)", [1, 2]),
    ],
)
def test_commas_separate_the_cells_of_a_sweep(setting, values):
    assert swept(setting) == values


def test_deletions_and_options_are_left_alone():
    assert as_typed("~text", Settings, {}) == "~text" and as_typed("~text=a b(", Settings, {}) == "~text=a b("
    arguments = ["--cfg", "job", "text=a (1)", "-cd", "my conf", "files.x=#"]
    assert rewrite(arguments, Settings, {}) == ["--cfg", "job", "-cd", "my conf", "text='a (1)'", "files.x='#'"]
    assert rewrite(["-m", "text=a b,c"], Settings, {}) == ["-m", "text=a b,c"]
    assert rewrite(["old=x"], Settings, {"new": str}, {"old": "new"}) == ["new=x"]


def test_a_sweep_that_a_yaml_starts_is_one():
    assert rewrite(["experiment=table2a", "init=a b.bin,null"], RunConfig, {})[1] == "init=a b.bin,null"
    assert rewrite(["hydra.mode=MULTIRUN", "init=a,b"], RunConfig, {})[1] == "init=a,b"
    assert rewrite(["experiment=smoke", "init=a,b"], RunConfig, {})[1] == "init='a,b'"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prompt=a", "man", "img"], "'man' is not a setting; write key=value"),
        (["--steps=5"], "unknown option --steps=5; settings are written without dashes: steps=..."),
        (["größe=5"], "'größe' in 'größe=5' is not a key"),
    ],
)
def test_what_is_no_setting_is_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        rewrite(arguments, Settings, {})


@pytest.mark.parametrize(
    ("command", "declared", "setting", "path", "value"),
    [
        ("generate", GenerateConfig, "id_images=[фото.png,photo (1).png]", "id_images", ["фото.png", "photo (1).png"]),
        ("generate", GenerateConfig, "adapter=runs/epoch=9-step=100.safetensors", "adapter", None),
        ("generate", GenerateConfig, "sampler.negative_prompt=ugly, (old)", "sampler.negative_prompt", None),
        ("preprocess", PreprocessConfig, "dataset.root=/data/José,b", "dataset.root", None),
        ("preprocess", PreprocessConfig, "base.path=/models/#1 (new)", "base.path", None),
        ("train", RunConfig, "name=2024_01_01", "name", None),
        ("train", RunConfig, "tracker.tags=[a=b,1e5]", "tracker.tags", ["a=b", "1e5"]),
    ],
)
def test_the_commands_own_settings(command, declared, setting, path, value):
    config = composed(command, [as_typed(setting, declared, {})], resolve=False)
    for key in path.split("."):
        config = config[key]
    assert config == (setting.partition("=")[2] if value is None else value)


OWN_FACE = """
from dataclasses import dataclass
from pm.photo.faces.detect import FaceChoice

@dataclass(frozen=True)
class Own(FaceChoice):
    note: str
"""


def test_text_of_a_part_that_this_command_line_names_is_taken_as_typed(tmp_path, monkeypatch):
    for package in ("own_parts_a", "own_parts_b"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "faces.py").write_text(OWN_FACE)
    monkeypatch.syspath_prepend(tmp_path)
    note = "face.note=2024_01_01"
    assert rewrite([note], PreprocessConfig, {}) == [note]  # whose part is not said: Hydra reads a number
    chosen = "face.name=own_parts_a.faces"
    assert rewrite([chosen, "face.min_size=9"], PreprocessConfig, {}) == [chosen, "face.min_size=9"]
    typed = rewrite([note, chosen], PreprocessConfig, {})
    read = OverridesParser.create().parse_override(typed[0]).value()
    assert read == "2024_01_01" and typed[1] == chosen
    swept_names = "face.name=own_parts_a.faces,own_parts_b.faces"
    assert rewrite(["-m", swept_names, note], PreprocessConfig, {})[-1] == typed[0]
    wrong = ["face.name=own_parts_a.nothing", note]  # refused with its name where the settings are read
    assert rewrite(wrong, PreprocessConfig, {}) == wrong


def test_only_the_named_part_of_the_setting_is_imported(tmp_path, monkeypatch):
    for name in ("own_one", "own_other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "faces.py").write_text(OWN_FACE)
    monkeypatch.syspath_prepend(tmp_path)
    settings = ["face.name=own_one.faces", "dataset.root=own_other.faces", "face.note=x"]
    rewrite(settings, PreprocessConfig, {})
    assert "own_one.faces" in sys.modules and "own_other.faces" not in sys.modules


def test_a_prompt_reaches_the_command_whole(monkeypatch, capsys):
    from pipelines.generate import main

    prompt = "a man's img (old), {x}: 5 $HOME,\nb \\"
    monkeypatch.setattr(
        "sys.argv", ["photomaker generate", f"prompt={prompt}", "id_images=[фото (1).png]", "--cfg", "job"]
    )
    main()
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["prompt"] == prompt and shown["id_images"] == ["фото (1).png"]
