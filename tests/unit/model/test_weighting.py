"""The syntax of weights: what is text, and which characters weigh what."""

import pytest

from pm.errors import RequestError
from pm.model.weighting import read_weights


def runs(weighted) -> list[tuple[str, float]]:
    """Parts of the text of one weight."""
    found: list[tuple[str, float]] = []
    for letter, weight in zip(weighted.text, weighted.weights, strict=True):
        if found and found[-1][1] == weight:
            found[-1] = (found[-1][0] + letter, weight)
        else:
            found.append((letter, weight))
    return [(text, round(weight, 4)) for text, weight in found]


@pytest.mark.parametrize("weighting", ["explicit", "full"])
@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("a man in red", [("a man in red", 1)]),
        ("a (red hat:1.2) on", [("a ", 1), ("red hat", 1.2), (" on", 1)]),
        ("(a (b:2) c:0.5)", [("a ", 0.5), ("b", 1), (" c", 0.5)]),
        ("(x:+1.5)(y: .5 )", [("x", 1.5), ("y", 0.5)]),
        ("(2049:1.2) (hat:2)", [("2049", 1.2), (" ", 1), ("hat", 2)]),
        (r"a \(b\) (c\):1.3)", [("a (b) ", 1), ("c)", 1.3)]),
        ("(a [b:1.2)", [("a [b", 1.2)]),
        ("smile :) (x", [("smile :) (x", 1)]),
        ("a ] b ) c", [("a ] b ) c", 1)]),
        (r"C:\new \\ x", [(r"C:\new \ x", 1)]),
        ("(:1.2)a", [("a", 1)]),
        ("(a:0)", [("a", 0)]),
        ("(a:10)", [("a", 10)]),
    ],
)
def test_numbers_and_escapes(weighting, written, expected):
    assert runs(read_weights(written, weighting)) == expected


@pytest.mark.parametrize(
    ("written", "explicit", "full"),
    [
        ("(hat)", [("(hat)", 1)], [("hat", 1.1)]),
        ("((hat))", [("((hat))", 1)], [("hat", 1.21)]),
        ("[hat]", [("[hat]", 1)], [("hat", 0.9091)]),
        ("((a) b:1.5)", [("(a) b", 1.5)], [("a", 1.65), (" b", 1.5)]),
        ("(16:9) (at 10:30)", [("(16:9) (at 10:30)", 1)], [("16:9", 1.1), (" ", 1), ("at 10:30", 1.1)]),
        ("[hat:1.2]", [("[hat:1.2]", 1)], [("hat:1.2", 0.9091)]),
        ("(a [b:1.2) c]", [("a [b", 1.2), (" c]", 1)], [("a [b", 1.2), (" c]", 1)]),
    ],
)
def test_brackets_without_a_number(written, explicit, full):
    assert runs(read_weights(written, "explicit")) == explicit
    assert runs(read_weights(written, "full")) == full


def test_none_reads_nothing():
    written = r"a (hat:1.2) [b] \( BREAK c"
    assert runs(read_weights(written, "none")) == [(written, 1)] and read_weights(written, "none").breaks == ()


@pytest.mark.parametrize(
    ("written", "chunks"),
    [
        ("a hat BREAK a street", ["a hat ", "a street"]),
        ("a\nBREAK\nb BREAK c", ["a ", "b ", "c"]),
        ("BREAK a BREAK BREAK b BREAK", ["a ", "b"]),
        ("a break, BREAKING unBREAK", ["a break, BREAKING unBREAK"]),
        ("BREAK", [""]),
    ],
)
def test_break_begins_a_new_chunk(written, chunks):
    found = read_weights(written)
    edges = [0, *found.breaks, len(found.text)]
    assert [found.text[a:b] for a, b in zip(edges, edges[1:], strict=False)] == chunks


def test_break_inside_a_weight_keeps_it():
    found = read_weights("(a BREAK b:1.3) c")
    assert (found.text, found.breaks) == ("a b c", (2,))
    assert found.weights[0] == found.weights[2] == 1.3 and found.weights[-1] == 1


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("(hat:12)", "weight 12 in prompt '\\(hat:12\\)' is out of range 0 to 10; write for example 1.2"),
        ("(hat:-1)", "weight -1 .*; put it into negative_prompt"),
    ],
)
def test_weights_out_of_range_are_refused(written, says):
    with pytest.raises(RequestError, match=says):
        read_weights(written)


def test_other_ways_are_named():
    with pytest.raises(RequestError, match="prompt_weighting='yes' is not one of explicit, full, none"):
        read_weights("a", "yes")


def test_long_nonsense_takes_no_long_time():
    text = "(" * 2000 + ":" * 2000 + ")" * 2000 + "(a:1.1)" * 500
    assert len(read_weights(text).text) == 6000 + 500
