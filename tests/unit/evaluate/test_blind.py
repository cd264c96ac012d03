import json
import re

import numpy as np
import pytest
from support.evaluation import CONFIG, trials_of
from support.pages import Page
from support.reporting import blind_rows

from pm.errors import ConfigError, DataError
from pm.evaluate.pages.blind import KEY, PAGE, drawn, write_blind
from pm.evaluate.votes import VotesConfig, ballots, count, preferences, shares, wilson

PAIRS = 12


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A page with its key, and both read."""
    folder, rows = tmp_path_factory.mktemp("blind"), blind_rows()
    page = write_blind(folder, trials_of(CONFIG), rows, rows[0], PAIRS)
    data = json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(), re.DOTALL)[1])
    return folder, data, json.loads((folder / KEY).read_text())


def ballot(key, voter, answer, pairs=PAIRS):
    """A file's content; `answer(rows of both pictures)` is a row's name or "none"."""
    votes = []
    for pair, pictures in list(key["pairs"].items())[:pairs]:
        by_row = {key["pictures"][p]["row"]: p for p in pictures}
        chosen = by_row.get(answer(by_row), "none")
        votes.append({"pair": pair, "left": pictures[0], "right": pictures[1], "answers": {"overall": chosen}})
    return {"format": 1, "page": key["page"], "voter": voter, "votes": votes}


def saved(tmp_path, *contents):
    files = [tmp_path / f"{i}.json" for i in range(len(contents))]
    for file, content in zip(files, contents, strict=True):
        file.write_text(content if isinstance(content, str) else json.dumps(content))
    return tuple(map(str, files))


def test_the_page_names_no_method_and_needs_nothing_else(made):
    folder, data, key = made
    text, page = (folder / PAGE).read_text(), Page(folder / PAGE)
    for row in blind_rows():
        assert row.name not in text and row.key not in text
    assert key["salt"] not in text and not page.links
    assert not any(trial.person in text for trial in trials_of(CONFIG))
    assert len(data["pairs"]) == PAIRS and all(len(pair["references"]) == 3 for pair in data["pairs"])
    assert list(data["questions"]) == ["person", "prompt", "overall"]
    assert all({"id", "source"} == p.keys() for pair in data["pairs"] for p in pair["pictures"])


def test_the_key_tells_whose_every_picture_is(made):
    _, data, key = made
    others = []
    for pair in data["pairs"]:
        one, other = (key["pictures"][p["id"]] for p in pair["pictures"])
        assert (one["person"], one["prompt"], one["image"]) == (other["person"], other["prompt"], other["image"])
        assert one["prompt"] == pair["prompt"] and key["pairs"][pair["id"]] == [p["id"] for p in pair["pictures"]]
        others += [p["row"] for p in (one, other) if p["row"] != "PhotoMaker"]
    assert sorted(others) == ["DreamBooth"] * 6 + ["IP-Adapter"] * 6
    firsts = [key["pictures"][pair["pictures"][0]["id"]]["row"] == "PhotoMaker" for pair in data["pairs"]]
    assert 0 < sum(firsts) < PAIRS  # the order of two pictures says nothing


def test_the_same_pictures_keep_page_and_key_and_others_keep_the_old_key(tmp_path):
    rows, trials = blind_rows(), trials_of(CONFIG)
    write_blind(tmp_path, trials, rows, rows[0], PAIRS)
    page, key = (tmp_path / PAGE).read_text(), json.loads((tmp_path / KEY).read_text())
    write_blind(tmp_path, trials, rows, rows[0], PAIRS)
    assert (tmp_path / PAGE).read_text() == page and json.loads((tmp_path / KEY).read_text()) == key
    write_blind(tmp_path, trials, rows[:2], rows[0], PAIRS)
    new = json.loads((tmp_path / KEY).read_text())
    assert new["page"] != key["page"] and new["salt"] != key["salt"]
    assert json.loads((tmp_path / f"blind-{key['page']}.key.json").read_text()) == key
    assert write_blind(tmp_path, trials, rows[:1], rows[0], PAIRS) is None


def test_pairs_are_spread_over_methods_and_people_and_none_comes_twice():
    trials = trials_of(CONFIG)
    found = drawn(trials, 3, 11, np.random.default_rng(0))
    assert len(set(found)) == 11 and sorted(sum(o == k for o, _, _ in found) for k in range(3)) == [3, 4, 4]
    for other in range(3):
        people = [trials[t].person for o, t, _ in found if o == other]
        assert len(set(people)) == len(people)
    assert len(drawn(trials, 1, 1000, np.random.default_rng(0))) == len(trials) * CONFIG.images


def test_a_table_of_votes_has_the_shares_that_were_voted(made, tmp_path):
    folder, _, key = made
    wins = ballot(key, "a", lambda rows: "PhotoMaker" if "DreamBooth" in rows else "none")
    losses = ballot(key, "b", lambda rows: next(row for row in rows if row != "PhotoMaker"))
    found = preferences(key, ballots(key, [*map(folder.__class__, saved(tmp_path, wins, losses))]))
    shown = {p.other: (p.votes, p.voters, p.first.mean, p.none.mean, p.second.mean) for p in found}
    assert shown == {"DreamBooth": (12, 2, 0.5, 0, 0.5), "IP-Adapter": (12, 2, 0, 0.5, 0.5)}
    text = count(VotesConfig(saved(tmp_path, wins, losses), str(folder / KEY)))
    assert "PhotoMaker preferred" in text and "50.0 [25.4, 74.6]" in text and "too narrow" in text
    assert count(VotesConfig((str(tmp_path),), str(folder / KEY))) == text


def test_wilson_and_the_bootstrap_over_voters_have_known_answers():
    assert wilson(5, 10).low == pytest.approx(0.2366, abs=1e-4)  # as in the literature's tables
    assert (wilson(0, 10).low, wilson(0, 10).high) == pytest.approx((0, 0.2775), abs=1e-4)
    alike = shares([[6, 2, 2]] * 8)  # whoever is drawn, the shares are these
    assert [(s.low, s.mean, s.high) for s in alike] == [pytest.approx((v,) * 3) for v in (0.6, 0.2, 0.2)]
    split = shares([[10, 0, 0]] * 4 + [[0, 0, 10]] * 4)[0]  # 80 votes of 8 people are 8 opinions
    assert split.high - split.low > 2 * (wilson(40, 80).high - wilson(40, 80).low)


def spoil(content, how):
    vote = content["votes"][0]
    if how == "another page":
        content["page"] = "0" * 16
    elif how == "a pair twice":
        content["votes"].append(vote)
    elif how == "a strange pair":
        vote["pair"] = "f" * 16
    elif how == "a picture of another pair":
        vote["answers"] = {"overall": content["votes"][1]["left"]}
    elif how == "a strange question":
        vote["answers"] = {"prettier": "none"}
    elif how == "no answers":
        del vote["answers"]
    elif how == "another format":
        content["format"] = 2
    elif how == "a list":
        return [content]
    return json.dumps(content)[:-40] if how == "cut short" else content


@pytest.mark.parametrize(
    "how, message",
    [
        ("another page", r"of page 0{16}, and the key is of page \w{16}; give the key"),
        ("a pair twice", "0.json was changed .*answered twice"),
        ("a strange pair", "was changed .*pair 'f{16}' is not on the page"),
        ("a picture of another pair", "was changed .*has overall="),
        ("a strange question", "was changed .*has prettier="),
        ("no answers", "was changed .*answers"),
        ("another format", "0.json is no file of votes"),
        ("a list", "0.json is no file of votes"),
        ("cut short", "0.json cannot be read as the file of votes"),
    ],
)
def test_files_that_cannot_be_trusted_are_named(made, tmp_path, how, message):
    folder, _, key = made
    files = saved(tmp_path, spoil(ballot(key, "a", lambda rows: "PhotoMaker"), how))
    with pytest.raises(DataError, match=message):
        count(VotesConfig(files, str(folder / KEY)))


def test_a_voter_counts_once_and_nothing_is_no_vote(made, tmp_path):
    folder, _, key = made
    earlier, later = (ballot(key, "a", lambda rows: "PhotoMaker", pairs=n) for n in (3, 5))
    with pytest.raises(DataError, match=r"0.json and .*1.json are of the same voter \(a\)"):
        count(VotesConfig(saved(tmp_path, earlier, later), str(folder / KEY)))
    with pytest.raises(DataError, match="no pair is answered"):
        count(VotesConfig(saved(tmp_path, ballot(key, "a", str, pairs=0)), str(folder / KEY)))
    with pytest.raises(DataError, match="missing.json cannot be read"):
        count(VotesConfig((str(tmp_path / "missing.json"),), str(folder / KEY)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no file of votes"):
        count(VotesConfig((str(tmp_path / "empty"),), str(folder / KEY)))
    with pytest.raises(DataError, match="is no key of a blind page"):
        count(VotesConfig(saved(tmp_path, earlier), *saved(tmp_path / "empty", earlier)))
    with pytest.raises(ConfigError, match="votes= and key= are needed"):
        VotesConfig((), str(folder / KEY))
