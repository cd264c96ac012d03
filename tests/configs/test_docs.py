"""The texts keep up with the code: links lead somewhere, commands compose, and what is generated is complete."""

import ast
import functools
import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from pipelines._command_line import as_typed

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
DOCS = ROOT / "docs"
PARTS = ROOT / "tests" / "extend" / "my_parts"
TEXTS = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md")), *sorted((ROOT / "assets").rglob("README.md"))]
MODULES = sorted(path for room in ("pm", "serving") for path in (ROOT / room).rglob("*.py"))
RECORDS = sorted((DOCS / "decisions").glob("[0-9]*.md"))


def hook(name: str):
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / "hooks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def in_root(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def without_code(text: str) -> str:
    return re.sub(r"```.*?```|`[^`\n]*`|^    .*$", "", text, flags=re.M | re.S)


def anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("text", TEXTS, ids=in_root)
def test_links_lead_somewhere(text):
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", without_code(text.read_text())):
        path, _, anchor = target.partition("#")
        place = (text.parent / path).resolve() if path else text
        assert place.exists(), target
        if anchor:
            assert anchor in anchors(place.read_text()), target


class Unknown:
    """No type is declared: what Hydra cannot read is quoted, the rest is left to it."""


def commands() -> list[tuple[str, str, str]]:
    """Every call of a command with settings in the texts: the file, the command's name, its arguments."""
    found = set()
    words = r"""(?:"[^"\n]*"|'[^'\n]*'|[^`|;\n'"])*"""  # a pipe in quotes is a setting's, another ends the command
    for text in TEXTS:
        joined = re.sub(r"\\\n\s*", "", text.read_text())
        for name, rest in re.findall(rf"(?:python pipelines/|photomaker )(\w+)(?:\.py)? ({words})", joined):
            arguments = re.sub(r"\s+(#|->).*", "", rest).strip()
            if (CONF / f"{name}.yaml").exists() and not re.search(r"[…$<]|\.\.\.|--help|--cfg", arguments):
                found.add((in_root(text), name, arguments))
    return sorted(found)


@pytest.fixture(scope="module")
def hydra_of_conf():
    OmegaConf.register_new_resolver("root", lambda path: str(ROOT / path), replace=True)
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        yield


@pytest.mark.parametrize("file, name, arguments", commands())
def test_commands_of_the_texts_compose(file, name, arguments, hydra_of_conf):
    overrides = [word for word in shlex.split(arguments) if "=" in word]
    # A sweep's list stands for its first value; a sentence is quoted, as the commands do it.
    first = [word if re.search(r"=[\[{]", word) or " " in word else word.split(",")[0] for word in overrides]
    quoted = [as_typed(word, Unknown, {"prompt": str, "x": str, "y": str}) for word in first]
    if "--config-dir my_parts/conf" in arguments:  # docs/extending.md
        quoted.append(f"hydra.searchpath=[file://{ROOT}/tests/extend/my_parts/conf]")
    # These take the name that preprocess has for a group.
    renamed = name in ("browse", "forget")
    compose(name, [re.sub("^dataset=", "data=", word) if renamed else word for word in quoted])


def test_every_example_of_a_part_is_shown():
    """With its YAML file and a command, from the files that the tests run."""
    page, table = (DOCS / "extending.md").read_text(), (ROOT / "CONTRIBUTING.md").read_text()
    parts = ROOT / "tests/extend/my_parts"
    modules = {path.stem for path in parts.glob("*.py")} - {"__init__"}
    settings = {path.stem: path.parent.name for path in parts.glob("conf/*/*.yaml")}
    assert modules == settings.keys()
    for name, group in settings.items():
        for file in (f"{name}.py", f"conf/{group}/{name}.yaml"):
            assert f'--8<-- "tests/extend/my_parts/{file}"' in page, file
        assert f"`{name}.py`" in table and f"`{group}/`" in table, name
        typed = re.compile(rf"\b{group}(={name}\b|s=\[[\w,]*\b{name}\b)")  # a choice, or one of a list
        assert any(text == "docs/extending.md" and typed.search(words) for text, _, words in commands()), name


def test_texts_have_commands():
    assert {name for _, name, _ in commands()} >= {"preprocess", "train", "generate", "evaluate"}


def test_every_command_is_in_the_reference():
    table = hook("commands").table()
    files = sorted(path.stem for path in (ROOT / "pipelines").glob("[a-z]*.py") if path.stem != "pipelines")
    assert all(f"| `{name}` |" in table and f"`photomaker {name} " in table for name in files)


def test_records_are_numbered_and_listed():
    numbers = [int(path.name[:4]) for path in RECORDS]
    assert numbers == list(range(1, len(RECORDS) + 1)), "two records share a number, or one is left out"
    index = (DOCS / "decisions" / "index.md").read_text()
    for path in RECORDS:
        title = path.read_text().splitlines()[0].removeprefix("# ")
        assert re.match(r"\d+\. ", title), path.name
        assert f"- [{title}]({path.name})" in index, f"{path.name} is not listed in docs/decisions/index.md"


@pytest.mark.parametrize("file", sorted(CONF.rglob("*.yaml")), ids=in_root)
def test_every_setting_is_in_the_reference(file):
    configuration = hook("configuration")
    text = file.read_text()
    listed = {key.removesuffix(".*") for key, _, _ in configuration.settings(text)}

    def keys(tree: dict, prefix: str = ""):
        for key, value in tree.items():
            yield from keys(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [f"{prefix}{key}"]

    expected = {key for key in keys(yaml.safe_load(text) or {}) if key.split(".")[0] not in configuration.SKIPPED}
    # A mapping written on one line is one setting.
    missing = {key for key in expected if not any(key == name or key.startswith(f"{name}.") for name in listed)}
    assert not missing
    title = f"{file.stem}.yaml" if file.parent == CONF else f"{file.parent.relative_to(CONF).as_posix()}={file.stem}"
    assert f"\n### {title}\n" in reference()


def test_comments_of_settings_are_in_the_reference():
    text = "# a file\n\na: 1 # one\nb:\n  # above\n  c: 'x # y' # three\n  d: null\n"
    assert hook("configuration").settings(text) == [
        ("a", "1", "one"),
        ("b.c", "'x # y'", "above three"),
        ("b.d", "null", ""),
    ]


def test_every_module_has_a_place_in_the_api():
    packages = hook("api").packages()
    listed = {module for modules in packages.values() for module in modules} | set(packages)
    expected = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in MODULES}
    assert listed == {name for name in expected if not name.rpartition(".")[2].startswith("_")}


@functools.cache
def reference() -> str:
    return hook("configuration").render()


def docstrings(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            yield getattr(node, "name", path.stem), ast.get_docstring(node) or ""


def faults(docstring: str) -> list[str]:
    """Entries of `Args:` and `Raises:` that are not one name and a description, which the reference could not show."""
    found, section = [], ""
    for line in docstring.splitlines():
        if re.match(r"\S", line):
            section = line.rstrip(":") if line.rstrip() in ("Args:", "Raises:", "Attributes:") else ""
            if re.match(r"(Args|Raises|Returns|Yields): \S", line):
                found.append(f"{line!r}: what follows a section's name starts on a new line")
        if re.search(r"\][\[(][a-z]", re.sub("`[^`]*`", "", line)):
            found.append(
                f"{line.strip()!r}: Markdown takes `][` for a link to another page; quote it, or say it in words"
            )
        elif section and re.match(r" {4}\S", line) and not re.match(r" {4}[*\w.]+( \([^)]*\))?: ", line):
            found.append(f"{line.strip()!r}: one name, a colon and a description, please")
    return found


@pytest.mark.parametrize("path", MODULES, ids=in_root)
def test_docstrings_can_be_shown(path):
    assert not [f"{name}: {fault}" for name, docstring in docstrings(path) for fault in faults(docstring)]


def test_faults_of_docstrings_are_found():
    assert faults("Do.\n\nArgs:\n    a, b: both.\n") and faults("Do.\n\nRaises:\n    ConfigError\n")
    assert faults("Do.\n\nReturns: a number.\n") and faults("Images [trial][image].") and not faults("`a[b][c]`")
    assert not faults("Do.\n\nArgs:\n    a: one,\n        or two.\n    *rest: more.\n\nReturns:\n    A number.\n")


def test_snippets_of_contributing_are_the_examples_own_lines():
    """docs/extending.md includes the files; a page of the repository cannot, so its excerpts are compared."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    found = re.findall(r"^    ```(?:python|yaml)\n(.*?)^    ```", text, re.M | re.S)
    files = [(PARTS / name).read_text() for name in ("passport.py", "conf/face/passport.yaml")]
    assert len(found) == len(files)
    for snippet, file in zip(found, files, strict=True):
        lines = [line[4:] for line in snippet.splitlines() if not line.startswith("    # my_parts/")]
        assert "\n".join(lines) in file
