"""Mean and deviation in a table."""

from pm.markdown import mean_sd


def test_mean_and_deviation():
    assert mean_sd([]) == "–" and mean_sd([0.01234]) == "0.01234" and mean_sd([1.0, 3.0]) == "2.000 ± 1.414"
    assert mean_sd([0.0]) == "0.0000" and mean_sd([1234.6]) == "1235" and mean_sd([40.0, 41.0], 1) == "40.5 ± 0.7"
