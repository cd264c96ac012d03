"""Grids and the PNG text."""

import numpy as np
import pytest
from PIL import Image

from pm.sample.grid import GridRow, labelled_grid, wrapped
from pm.sample.output_file import save_png


def _plain(colour, size=(16, 16)) -> Image.Image:
    return Image.new("RGB", size, colour)


def _has(image: Image.Image, colour) -> np.ndarray:
    return (np.asarray(image) == colour).all(-1)


def test_references_left_results_right_caption_below():
    red, blue, green = (200, 0, 0), (0, 0, 200), (0, 200, 0)
    row = GridRow([_plain(blue), _plain(green)], [_plain(red)], "a man img", ["seed 0", "seed 1"])
    picture = labelled_grid([row, GridRow([_plain(blue)])], tile=64, title="two rows")
    places = [np.argwhere(_has(picture, colour)) for colour in (red, blue, green)]
    assert [len(p) for p in places] == [64 * 64, 2 * 64 * 64, 64 * 64]
    first = [p[:, 1].min() for p in places]
    assert first == sorted(first)
    ink = np.asarray(picture.convert("L"))[places[0][:, 0].max() + 1 :]
    assert (ink < 140).sum() > 20


def test_twenty_results_wrap_and_stay_in_order():
    images = [_plain((i, 0, 0)) for i in range(20)]
    row = GridRow(images, [_plain("blue")], "a man img", [str(i) for i in range(20)])
    rows = wrapped(row)
    assert [len(r.results) for r in rows] == [6, 6, 6, 2]
    assert [image for r in rows for image in r.results] == images
    assert [label for r in rows for label in r.labels] == list(row.labels)
    assert [len(r.references) for r in rows] == [1, 0, 0, 0] and [r.caption for r in rows][-2:] == ["", "a man img"]
    few = GridRow(images[:6])
    assert wrapped(few) == [few]


def test_no_text_no_references_no_extra_columns():
    picture = labelled_grid([GridRow([_plain((9, 9, 9))] * 3)], tile=32)
    assert picture.width == 3 * 38 + 6


def test_small_pictures_stay_crisp_and_large_ones_fit():
    checker = Image.fromarray(np.indices((8, 8)).sum(0).astype(np.uint8) % 2 * 255).convert("RGB")
    values = np.unique(np.asarray(labelled_grid([GridRow([checker])], tile=64)))
    assert values.tolist() == [0, 255]
    assert labelled_grid([GridRow([_plain((1, 2, 3), (900, 300))])], tile=64).width == 64 + 12


def test_nothing_to_show():
    with pytest.raises(ValueError, match="at least one image"):
        labelled_grid([GridRow([])])


def test_png_says_how_it_was_made(tmp_path):
    save_png(tmp_path / "a.png", _plain((1, 2, 3)), {"prompt": "a man img – été", "seed": 7})
    with Image.open(tmp_path / "a.png") as image:
        assert image.text == {"prompt": "a man img – été", "seed": "7"}
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
