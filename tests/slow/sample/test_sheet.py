"""Contact sheets: a picture for each pair of values, each as it is alone, and axes that say which."""

import json

import pytest
from PIL import Image
from support.generating import config as configured
from support.generating import settings
from support.sampling import worst

from pm.errors import ConfigError, RequestError
from pm.sample.like import repeat_of
from pm.sample.output_file import read_about
from pm.sample.run import generate
from pm.sample.sheet import generate_sheet, labelled_sheet, read_axis


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("steps:10,20", "sampler.steps", (10, 20)),
        ("sampler.steps: 10 , 20 ", "sampler.steps", (10, 20)),
        ("seeds:0-3,7", "seed", (0, 1, 2, 3, 7)),
        ("seed:5", "seed", (5,)),
        ("guidance:1,2.5", "sampler.guidance", (1, 2.5)),
        ("prompt:a man img, smiling | a man img: sad", "prompt", ("a man img, smiling", "a man img: sad")),
        ("prompt:a man img, smiling", "prompt", ("a man img, smiling",)),
        ("negative_prompt:|blue", "sampler.negative_prompt", None),
        ("weights:[1,0],[0,1],null", "weights", ([1, 0], [0, 1], None)),
        ("adapter:a b.safetensors,null", "adapter", ("a b.safetensors", None)),
        ("schedule:ddim,euler", "sampler.schedule", ("ddim", "euler")),
        ("preprocess:auto,none", "preprocess", ("auto", "none")),
        ("aspect:3:4,square", "aspect", ("3:4", "square")),
    ],
)
def test_axes_are_read_as_people_type_them(text, name, values):
    if values is None:
        with pytest.raises(RequestError, match="a value is missing"):
            read_axis(text, "x")
        return
    axis = read_axis(text, "x")
    assert (axis.name, axis.values) == (name, values)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("steps", "x='steps' must be a setting and its values, such as x=steps:10,20,50"),
        ("steps:", "must be a setting and its values"),
        ("step:1,2", "'step' is no setting; did you mean 'steps'"),
        ("device:cpu,cuda", "device is the same for a whole sheet; vary one of"),
        ("batch_size:1,2", "batch_size is the same for a whole sheet"),
        ("seed:1,,2", "seed: a value is missing in '1,,2'"),
        ("colour:red", "'colour' is no setting"),
    ],
)
def test_no_axis_is_one_line(text, says):
    with pytest.raises(RequestError, match=says):
        read_axis(text, "x")


def test_cells_are_what_they_are_alone_and_can_be_repeated(tiny_base, adapter_files, tmp_path):
    args = (tiny_base, adapter_files["one"], tmp_path)
    config = configured(*args, "x='steps:2,3'", "y='seed:0-2'", "format=webp", "quality=100")
    folder = generate_sheet(config, progress=False)
    assert sorted(path.name for path in folder.iterdir()) == [*(f"000{i}.webp" for i in range(6)), "sheet.webp"]
    said = [json.loads(read_about(folder / f"000{i}.webp")["settings"]) for i in range(6)]
    assert [(s["sampler"]["steps"], s["seed"]) for s in said] == [(2, 0), (3, 0), (2, 1), (3, 1), (2, 2), (3, 2)]
    alone = generate(
        configured(*args, "sampler.steps=3", "seed=1", "images=1", f"output={tmp_path}/b"),
        progress=False,
    )
    with Image.open(folder / "0003.webp") as cell, Image.open(alone / "0000.png") as other:
        assert worst(cell, other) <= 1
    values = settings(*args, f"output={tmp_path}/c")
    repeat = repeat_of(folder / "0003.webp", values, ["output"])
    again = generate(repeat.config, progress=False, repeat=repeat)
    assert (again / "0000.webp").read_bytes() == (folder / "0003.webp").read_bytes()
    whole = repeat_of(folder / "sheet.webp", values, ["output"]).config
    assert (generate_sheet(whole, False) / "sheet.webp").read_bytes() == (folder / "sheet.webp").read_bytes()


def test_adapters_and_the_base_alone_in_one_sheet(tiny_base, adapter_files, tmp_path):
    one, two = adapter_files["one"], adapter_files["two"]
    config = configured(tiny_base, one, tmp_path, f"x='adapter:{one},{two}'", "y='schedule:ddim,euler'")
    folder = generate_sheet(config, progress=False)
    pictures = [Image.open(folder / f"000{i}.png") for i in range(4)]
    assert worst(pictures[0], pictures[1]) > 3 and worst(pictures[0], pictures[2]) > 0
    assert [json.loads(read_about(folder / f"000{i}.png")["settings"])["adapter"] for i in range(4)] == 2 * [
        str(one),
        str(two),
    ]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("x='steps:2,0'",), "steps"),
        (("x='guidance:1,high'",), "guidance"),
        (("x='steps:1,2'", "y='steps:3'"), "x and y both vary steps"),
        (("x='seed:0-99'", "y='steps:1,2,3,4,5,6,7,8,9,10,11'"), "1100 pictures, at most 1000 fit"),
        (("x='prompt:a man img | a stranger'",), "lacks the trigger word"),
    ],
)
def test_a_cell_that_cannot_be_made_is_found_before_any_weights_are_loaded(
    tiny_base, adapter_files, tmp_path, monkeypatch, overrides, says
):
    monkeypatch.setattr("pm.sample.run.load_pipeline", pytest.fail)
    with pytest.raises((RequestError, ConfigError), match=says):
        generate_sheet(configured(tiny_base, adapter_files["one"], tmp_path, *overrides), progress=False)
    assert not (tmp_path / "out").exists()


def test_a_sheet_has_room_for_its_labels():
    red, wide = Image.new("RGB", (64, 64), "red"), Image.new("RGB", (128, 64), "red")
    sheet = labelled_sheet([[red, wide], [wide, red]], ["steps 1", "word " * 80], ["", ""])
    plain = labelled_sheet([[red, wide], [wide, red]], ["", ""], ["", ""])
    assert sheet.width == plain.width and sheet.height > plain.height
    beside = labelled_sheet([[red, wide], [wide, red]], ["", ""], ["seed 1", "a much longer label for this row"])
    assert beside.width > plain.width and beside.height == plain.height
    # Every tile is there, whole: 64 px twice as large, 128 px as it is.
    assert sum(colour == (255, 0, 0) for colour in plain.getdata()) == 2 * 128 * 128 + 2 * 128 * 64
