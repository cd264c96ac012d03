"""A part is found by its file's name, by an entry point or by its dotted name, and built with its own settings."""

import dataclasses
import importlib.metadata
import subprocess
import sys
from typing import Annotated

import pytest
from annotated_types import Ge

from pm.choice import Choice, find_part, import_modules, may_be_named, part_names
from pm.config import from_mapping
from pm.errors import ConfigError
from pm.outline import outline

KIND = """
import dataclasses
from pm.choice import Choice

@dataclasses.dataclass(frozen=True)
class Shape(Choice, group="shape", package="shapes"):
    name: str
"""
SQUARE = """
import dataclasses
from typing import Annotated
from annotated_types import Ge
from shapes import Shape

@dataclasses.dataclass(frozen=True)
class Square(Shape):
    side: Annotated[int, Ge(1)]
"""
POINT = SQUARE.replace("Square", "Point").replace("    side: Annotated[int, Ge(1)]", "    pass")


@pytest.fixture()
def kind(tmp_path, monkeypatch):
    """A kind `shape` with two parts, beside a helper that is none, and a part in another package."""
    files = {"shapes/__init__.py": KIND, "shapes/square.py": SQUARE, "shapes/point.py": POINT, "shapes/area.py": ""}
    for name, text in (files | {"others/__init__.py": "", "others/round.py": POINT.replace("Point", "Round")}).items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield __import__("shapes").Shape
    outline.cache_clear()
    for name in [n for n in sys.modules if n.partition(".")[0] in ("shapes", "others")]:
        del sys.modules[name]


def test_by_file_name_with_its_own_settings(kind):
    square = from_mapping(kind, {"name": "square", "side": 3})
    assert type(square).__name__ == "Square" and square.side == 3
    assert type(from_mapping(kind, "point")).__name__ == "Point"
    assert part_names(kind) == ["point", "square"]


def test_by_dotted_name(kind):
    assert type(from_mapping(kind, "others.round")).__name__ == "Round"


def test_by_entry_point(kind, monkeypatch):
    point = importlib.metadata.EntryPoint("disc", "others.round", "photomaker.shape")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point] if group == point.group else [])
    assert type(from_mapping(kind, "disc")).__name__ == "Round"
    assert part_names(kind) == ["disc", "point", "square"]


@pytest.mark.parametrize(
    "value, message",
    [
        ({"name": "circle"}, r"shape='circle' is not one of point, square; a part of your own"),
        ({"name": "sqare"}, r"is not one of point, square; did you mean 'square'\? a part of your own"),
        ({"name": "area"}, r"shape='area' is not one of point, square"),
        ({"name": "os"}, r"shape='os' is not one of"),
        ({"name": "os.path"}, r"shape='os.path' is not one of"),
        ({"name": "no.such.module"}, r"shape='no.such.module' is not one of"),
        ({"name": "../square"}, r"is not one of"),
        ({"side": 3}, r"shape.name is missing; choose one with shape="),
        ({"name": "square"}, r"shape.side is missing"),
        ({"name": "square", "side": 0}, r"shape.side=0 must be at least 1"),
        ({"name": "square", "sides": 1}, r"unknown config key 'shape.sides'; did you mean 'side'"),
    ],
)
def test_errors(kind, value, message):
    with pytest.raises(ConfigError, match=message):
        from_mapping(kind, value, "shape")


def test_a_part_whose_package_is_missing_says_so(kind, tmp_path):
    (tmp_path / "shapes" / "broken.py").write_text("import no_such_library\n")
    with pytest.raises(ConfigError, match="shape=broken cannot be imported .*no_such_library"):
        find_part(kind, "broken")


def test_kinds_nest(kind):
    @dataclasses.dataclass(frozen=True)
    class Picture:
        shape: kind | None
        layers: Annotated[int, Ge(0)]

    assert from_mapping(Picture, {"shape": None, "layers": 1}).shape is None
    assert from_mapping(Picture, {"shape": "point", "layers": 1}).shape.name == "point"
    assert issubclass(kind, Choice)


def test_a_file_may_choose_what_is_ours_installed_or_imported(kind, monkeypatch):
    point = importlib.metadata.EntryPoint("disc", "others.round", "photomaker.shape")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point] if group == point.group else [])
    allowed = ["square", "disc"]
    assert all(may_be_named(kind, name) for name in allowed) and not may_be_named(kind, "others.round")
    import_modules(["others.round"])
    assert may_be_named(kind, "others.round")


def test_a_module_that_cannot_be_imported_is_said():
    with pytest.raises(ConfigError, match=r"modules=no.such.module cannot be imported .*is its folder on PYTHONPATH"):
        import_modules(["no.such.module"])


@pytest.mark.parametrize("name", ["group", "package"])
def test_a_setting_cannot_have_the_name_of_what_the_kind_declares(kind, name):
    with pytest.raises(TypeError, match=f"Star.{name}: this name belongs to the kind"):
        type("Star", (kind,), {"__annotations__": {name: str}})


LISTING = """
import sys
from pm.choice import part_names
{imports}
before = set(sys.modules)
names = [part_names(kind) for kind in ({kinds})]
assert all(names), names
heavy = {{"torch", "deepspeed", "ray", "transformers", "diffusers", "scipy", "cv2", "dlib", "wandb"}}
print(sorted(heavy & set(sys.modules)))
"""


def test_listing_the_names_of_every_kind_imports_nothing_heavy():
    import_ = {
        "pm.data.captioning.choice": "CaptionChoice",
        "pm.data.captioning.marking.choice": "MarkingChoice",
        "pm.data.source.choice": "SourceChoice",
        "pm.data.verify.choice": "VerifyChoice",
        "pm.evaluate.metrics.base": "MetricChoice",
        "pm.model.compose.base": "ComposeChoice",
        "pm.model.families.base": "Family",
        "pm.photo.embedders.embed": "EmbedderChoice",
        "pm.photo.faces.detect": "FaceChoice",
        "pm.photo.masks.select": "MaskChoice",
        "pm.sample.schedules.base": "ScheduleChoice",
        "pm.track.base": "TrackerChoice",
        "pm.train.engine.choice": "EngineChoice",
        "pm.train.losses.choice": "LossWeights",
    }
    imports = "\n".join(f"from {module} import {kind}" for module, kind in import_.items())
    code = LISTING.format(imports=imports, kinds=", ".join(import_.values()))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_part_through_a_base_of_another_module_is_listed(kind, tmp_path):
    text = POINT.replace("from shapes import Shape", "from shapes.square import Square as Shape")
    (tmp_path / "shapes" / "cube.py").write_text(text.replace("Point", "Cube"))
    assert part_names(kind) == ["cube", "point", "square"]
