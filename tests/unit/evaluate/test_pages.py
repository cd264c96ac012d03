import dataclasses
import json
import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from support.evaluation import CONFIG, HEADS, trials_of
from support.pages import Page
from support.reporting import content, fill, pair_section, rows_of

from pm.evaluate.pages import page as pages
from pm.evaluate.pages.page import plots, write_page
from pm.evaluate.pages.scatter import HEIGHT, LEFT, WIDTH, scatter, ticks
from pm.evaluate.pairs import all_pairs
from pm.evaluate.statistics import Interval
from pm.evaluate.tables import Column

NASTY = "<script>alert(1)</script>"
COPY = Column("copy-paste", higher_is_better=False)


@pytest.fixture
def trials():
    """One of the people has a name that is markup, and one of the prompts."""
    found = trials_of(CONFIG)
    return [dataclasses.replace(t, template=f"{{person}} {NASTY}") if t.person == found[0].person else t for t in found]


def data_of(path):
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text(), re.DOTALL)[1])


def test_the_page_has_tables_plots_and_every_picture_with_its_values_and_fetches_nothing(tmp_path, trials):
    rows = rows_of(trials)
    fill(tmp_path, trials, rows)
    path = write_page(tmp_path, content(trials, rows))
    page, data = Page(path), data_of(path)
    page.check(tmp_path)
    assert page.data == {"data": data}
    assert all(link.startswith("#") for link in page.links) and "http" not in re.sub(r"data:\S+", "", page.text)
    assert "Identity against prompt" in page.text and path.read_text().count("<svg") == 1
    assert "copy_paste, toon_copy_paste" in page.text  # why the other plot is not there
    assert "**" not in page.text
    assert '<strong>1.0 <small class="interval">[0.5, 1.5]</small></strong>' in path.read_text()
    assert [row["name"] for row in data["rows"]] == ["row one", "row two"]
    pictures = [source for row in data["rows"] for trial in row["pictures"] for source in trial]
    assert len(set(pictures)) == len(pictures) == 2 * len(trials) * CONFIG.images
    assert all(source.startswith("data:image/png;base64,") for source in pictures)
    assert data["rows"][0]["values"] == [{"identity": [0.25, 0.75]}] * len(trials)  # prompt is of another model
    assert data["rows"][1]["people"][0]["identity"] == round(rows[1].scores["identity"].per_person[trials[0].person], 5)
    assert [person["name"] for person in data["people"]] == list(dict.fromkeys(t.person for t in trials))
    assert all(len(person["references"]) == 3 for person in data["people"])


def test_a_reader_may_choose_which_row_is_compared_with_the_others(tmp_path, trials):
    rows = rows_of(trials)
    fill(tmp_path, trials, rows)
    pairs = all_pairs(rows[::-1])
    told = content(trials, rows, more=[pair_section("row two")], pairs=pairs)
    path = write_page(tmp_path, told)
    ((first, second, found),) = data_of(path)["pairs"]
    assert (first, second) == (1, 0) and found["identity"][0] == round(pairs[0].differences["identity"].mean, 5)
    options = re.search(r'<select id="reference">(.*?)</select>', path.read_text())[1]
    assert options == '<option value="0">row one</option><option value="1" selected>row two</option>'
    assert path.read_text().count('<tbody id="pairs-body">') == 1
    assert 'id="reference"' not in write_page(tmp_path, content(trials, rows)).read_text()


def test_names_are_text_and_never_markup(tmp_path, trials):
    rows = rows_of(trials, name=NASTY)
    fill(tmp_path, trials, rows)
    written = write_page(tmp_path, content(trials, rows, missing=NASTY)).read_text()
    assert NASTY not in written and written.count("<script") == 2
    assert f"{NASTY} one" in Page(tmp_path / "report.html").text
    assert any(NASTY in trial["text"] for trial in data_of(tmp_path / "report.html")["trials"])


def test_many_pictures_are_named_instead_of_embedded(tmp_path, trials, monkeypatch):
    rows = rows_of(trials)
    store = fill(tmp_path, trials, rows)
    monkeypatch.setattr("pm.evaluate.pages.pictures.EMBEDDED", 1000)
    path = write_page(tmp_path, content(trials, rows))
    sources = [source for row in data_of(path)["rows"] for trial in row["pictures"] for source in trial]
    assert all((tmp_path / unquote(source)).is_file() for source in sources)
    assert sources[0] == store.path("one", (0, 0)).relative_to(tmp_path).as_posix()
    assert "are files beside this page" in Page(path).text


def test_a_partial_page_says_so_and_what_is_missing(tmp_path, trials):
    rows = rows_of(trials)
    fill(tmp_path, trials, rows, but=[("two", (0, 1))])
    page = Page(path := write_page(tmp_path, content(trials, rows, missing="39 of 40 pictures are in this report")))
    assert "Partial: 39 of 40 pictures" in page.text and "(partial)" in page.text
    assert data_of(path)["rows"][1]["pictures"][0][1] is None
    assert "Partial" not in Page(write_page(tmp_path, content(trials, rows))).text


def test_headings_and_tables_can_be_followed_by_a_screen_reader(tmp_path, trials):
    rows = rows_of(trials)
    fill(tmp_path, trials, rows)
    text = write_page(tmp_path, content(trials, rows)).read_text()
    levels = [int(level) for level in re.findall(r"<h([1-6])", text.split("<script")[0])]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in zip(levels, levels[1:], strict=False))
    head = re.search(r"<thead>(.*?)</thead>", text, re.DOTALL)[1]
    assert head.count('scope="col"') == 1 and text.count('<th scope="row">row ') == 2
    ids = re.findall(r'\bid="([^"]+)"', text.split("<script")[0])
    assert len(set(ids)) == len(ids)
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(ids)
    assert 'role="img" aria-labelledby' in text and '<html lang="en">' in text


@pytest.mark.parametrize("name", ["report", "blind"])
def test_scripts_name_only_what_is_in_their_page(name):
    folder = Path(pages.__file__).parent
    script, template = ((folder / f"{name}.{kind}").read_text() for kind in ("js", "html.j2"))
    wanted = set(re.findall(r"""(?:getElementById|\$)\("([\w-]+)"\)""", script))
    assert wanted and wanted <= set(re.findall(r'\bid="([^"{]+)"', template))
    assert "innerHTML" not in script and "default-src 'none'" in template


def test_ticks_are_round_and_enclose_the_values():
    assert ticks(0.0, 100.0) == [0, 50, 100] and ticks(27.0, 98.0) == [20, 40, 60, 80, 100]
    rng = np.random.default_rng(0)
    for low, width in rng.normal(size=(200, 2)):
        marks = ticks(low, low + abs(width))
        assert marks[0] <= low + 1e-6 and marks[-1] >= low + abs(width) - 1e-6 and 2 <= len(marks) <= 8
    assert len(ticks(3.0, 3.0)) >= 2


def test_points_of_a_plot_stand_where_their_values_are_and_numbers_apart():
    rng = np.random.default_rng(1)
    values = [Interval(v, v - 0.05, v + 0.05) for v in rng.uniform(0.2, 0.8, 12)]
    points = [(i, f"row {i}", values[i], values[i + 6]) for i in range(6)]
    plot = scatter("p", HEADS["prompt"], COPY, [*points, (7, "none", None, values[0])])
    assert [mark.number for mark in plot.marks] == list(range(6))
    assert plot.y_title == "copy-paste ↓" and "row 3: prompt" in plot.marks[3].text
    for one, a in zip(plot.marks, points, strict=True):
        for other, b in zip(plot.marks, points, strict=True):
            assert (one.x < other.x) == (a[2].mean < b[2].mean) or one is other
            assert (one.y > other.y) == (a[3].mean < b[3].mean) or one is other  # up is more
        assert one.x_low < one.x < one.x_high and one.y_low > one.y > one.y_high
        assert LEFT < one.label[0] < WIDTH and 0 < one.label[1] < HEIGHT
    labels = [mark.label for mark in plot.marks]
    assert min(np.hypot(*np.subtract(a, b)) for a in labels for b in labels if a is not b) > 10
    assert scatter("p", COPY, COPY, [(1, "none", None, None)]) is None


def test_the_axes_are_the_first_metrics_that_have_values(trials):
    rows = rows_of(trials)
    columns = {"toon_clip_t": Column("CLIP"), **HEADS, "copy_paste": COPY}
    for i, row in enumerate(rows):
        row.scores["copy_paste"] = dataclasses.replace(row.scores["identity"], interval=Interval(i / 10, 0, 0.3))
    (_, first, _), (_, second, _) = plots(rows, columns)
    assert (first.x_title, first.y_title) == ("prompt ↑", "identity ↑")
    assert (second.x_title, second.y_title) == ("copy-paste ↓", "identity ↑")
    assert pages.plots([], columns)[0][1] is None


def test_a_column_with_a_name_of_its_own_is_an_axis_too(trials):
    rows = rows_of(trials)
    for row in rows:
        row.scores["held out"] = row.scores.pop("identity")
    columns = {"held out": Column("held out", metric="identity"), "prompt": HEADS["prompt"]}
    assert plots(rows, columns)[0][1].y_title == "held out ↑"
    for row in rows:
        row.scores["identity"] = row.scores["held out"]
    assert plots(rows, columns | {"identity": Column("identity")})[0][1].y_title == "identity ↑"
