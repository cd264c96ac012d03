"""The pages of an evaluation in a real browser: what is seen, what a click does, and that nothing is fetched."""

import json

from support.browser import visit
from support.evaluation import CONFIG, trials_of
from support.reporting import blind_rows, content, fill, pair_section, rows_of

from pm.evaluate.pages.blind import KEY, PAGE, write_blind
from pm.evaluate.pages.page import write_page
from pm.evaluate.pairs import all_pairs
from pm.evaluate.votes import VotesConfig, count


def look(browser, page, steps, folder):
    """Values by the steps' names; no error, and no address but the page's own and pictures inside it."""
    folder.mkdir(exist_ok=True)
    seen = visit(browser, page, list(steps.values()), folder)
    assert seen["errors"] == []
    assert all(address.startswith(("file://", "data:", "blob:")) for address in seen["addresses"]), seen["addresses"]
    values = [None if value is None else json.loads(value) for value in seen["values"]]
    return dict(zip([name for name, step in steps.items() if step is not None], values, strict=True)), seen["files"]


def test_the_report_is_read_with_mouse_and_keys(browser, tmp_path):
    trials = trials_of(CONFIG)
    rows = rows_of(trials)
    fill(tmp_path, trials, rows)
    pairs = all_pairs(rows[::-1])  # row two is the headline
    page = write_page(tmp_path, content(trials, rows, more=[pair_section("row two")], pairs=pairs))
    cells = "[...pairsBody.rows].map(row => [...row.cells].map(cell => cell.textContent.trim()))"
    find = "document.querySelector('[data-filter]')"
    large = "[dialog.open, ...[...dialog.querySelectorAll('h2, .large')].map(each => each.src || each.textContent)]"
    first = "document.querySelector('#grid-body .picture img')"
    steps = {
        "people": "document.querySelectorAll('#grid-body tr').length",
        "wait": None,
        "decoded": f"[{first}.complete, {first}.naturalWidth]",
        "source": f"{first}.src",
        "other prompt": "(which.value = '1', which.dispatchEvent(new Event('change')), 1)",
        "other source": f"{first}.src",
        "hidden": "document.getElementById('reference-line').hidden",
        "pairs": cells,
        "other reference": "(reference.value = '0', reference.dispatchEvent(new Event('change')), 1)",
        "other pairs": cells,
        "back": "(reference.value = '1', reference.dispatchEvent(new Event('change')), 1)",
        "pairs again": cells,
        "open": "(document.querySelector('#person-list details').open = true, 1)",
        "wait 2": None,
        "inside": "document.querySelectorAll('#person-list details[open] figure').length",
        "find": f"({find}.value = '000', {find}.dispatchEvent(new Event('input')), 1)",
        "found": "[...document.querySelectorAll('#person-list details')].filter(e => !e.hidden).length",
        "click": f"({first}.parentElement.click(), 1)",
        "large": large,
        "right": "(dialog.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight' })), 1)",
        "next": large,
    }
    found, _ = look(browser, page, steps, tmp_path / "browser")
    assert found["people"] == CONFIG.identities and found["decoded"] == [True, 8]
    assert found["source"] != found["other source"]
    assert found["hidden"] is False and found["pairs"][0][0] == "row two − row one"
    assert found["pairs again"][0][0] == "row two − row one" and found["other pairs"][0][0] == "row one − row two"
    mean = 100 * pairs[0].differences["identity"].mean
    told, turned = (found[name][0][1].split()[0] for name in ("pairs again", "other pairs"))
    assert (told, turned) == (f"{mean:.1f}", f"{-mean:.1f}") and mean < 0
    assert found["inside"] == CONFIG.prompts * CONFIG.images * len(rows) and found["found"] == 1
    assert found["large"][0] and found["large"][2] == found["next"][2] == "row one"
    assert found["next"][0] and found["next"][1] != found["large"][1]  # the other image


def test_a_vote_is_cast_saved_and_counted(browser, tmp_path):
    rows = blind_rows()
    page = write_blind(tmp_path, trials_of(CONFIG), rows, rows[0], 4)
    answer = "document.querySelectorAll('fieldset').forEach(f => f.querySelectorAll('input')[0].click())"
    steps = {
        "closed": "document.getElementById('next').disabled",
        "heading": "document.getElementById('heading').textContent",
        "vote": f"({answer}, 1)",
        "open": "document.getElementById('next').disabled",
        "on": "(document.getElementById('next').click(), 1)",
        "second": "document.getElementById('heading').textContent",
        "vote again": f"({answer}, 1)",
        "told": "document.getElementById('state').textContent",
        "save": "(document.getElementById('save').click(), 1)",
        "wait": None,
        "wait 2": None,
        "saved": "document.getElementById('state').textContent",
    }
    found, files = look(browser, page, steps, tmp_path / "browser")
    assert (found["closed"], found["open"]) == (True, False)
    assert (found["heading"], found["second"]) == ("Pair 1 of 4", "Pair 2 of 4")
    assert found["told"].startswith("2 answered pairs are not in a file yet.")
    assert found["saved"] == "All answers are in the file that you saved."
    (file,) = files
    text = count(VotesConfig((str(tmp_path / "browser" / file),), str(tmp_path / KEY)))
    assert "overall" in text and "2 " in text and page.name == PAGE
