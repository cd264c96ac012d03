"""One way to write LoRAs with their strengths, whatever is in a name."""

import pytest

from pm.errors import RequestError
from pm.strengths import strengths, written


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, {}),
        ([], {}),
        ("style.safetensors", {"style.safetensors": 1.0}),
        ("style.safetensors:0.8", {"style.safetensors": 0.8}),
        (["a.safetensors:-0.5", "b:2"], {"a.safetensors": -0.5, "b": 2.0}),
        (["C:\\my loras\\ink wash.safetensors"], {"C:\\my loras\\ink wash.safetensors": 1.0}),
        (["C:\\ink.safetensors: 0.3"], {"C:\\ink.safetensors": 0.3}),
        (["odd:1:1"], {"odd:1": 1.0}),
        (["owner/name/file.safetensors:1e-1"], {"owner/name/file.safetensors": 0.1}),
        ({"style": 1, "other": 0.25}, {"style": 1.0, "other": 0.25}),
    ],
)
def test_what_is_written(value, expected):
    assert strengths(value) == expected
    assert strengths(written(expected).split(", ") if expected else []) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (["style:nan"], "strength nan"),
        (["style:inf"], "strength inf"),
        (["style:11"], "from -10 to 10"),
        ([":0.5"], "no name"),
        ([""], "no name"),
        (["a:1", " a:0.5"], "given twice"),
        ([3], "must be a text"),
        (7, "must be a list"),
        ({"a": "1"}, "must be a number"),
        ({"a": None}, "must be a number"),
        ({3: 1.0}, "no name"),
    ],
)
def test_what_is_refused(value, message):
    with pytest.raises(RequestError, match=message):
        strengths(value)
