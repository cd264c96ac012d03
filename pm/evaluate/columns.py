"""The columns of a report: a metric each, with a name of its own where one metric has several."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pm.choice import part_names
from pm.errors import ConfigError
from pm.evaluate.metrics.base import MetricChoice

_NAME = re.compile(r"\w[\w .+-]{0,59}(?<! )")  # safe as a file's name
# What a row of report.json holds beside its columns.
_TAKEN = frozenset(
    ("name", "key", "made", "asked", "seconds_per_image", "seconds_to_personalise", "peak_gib", "references", "compose")
    + ("merge", "interval_95", "metrics", "about", "per_attribute")
)
# Where weights are. Which weights they are says the model's fingerprint, which is compared by itself.
_PLACES = frozenset(("path", "probe", "column"))


def check_columns(metrics: Sequence[MetricChoice]) -> None:
    """Refuse names of columns that are no names, or that are there twice.

    Raises:
        ConfigError: names the column and what to write instead.
    """
    for metric in metrics:
        if not metric.column:
            continue
        if not _NAME.fullmatch(metric.column):
            raise ConfigError(
                f"column={metric.column!r} of metric {metric.name} is no name of a column; use up to 60 letters, "
                "digits, spaces and _ . + -, for example clip_i_held_out"
            )
        others = {*part_names(MetricChoice), *(m.name for m in metrics)} - {metric.name}
        if metric.column in others | _TAKEN:
            raise ConfigError(
                f"column={metric.column} of metric {metric.name} means something else in a report; give another name, "
                f"for example {metric.name}_2"
            )
    keys = [metric.key.casefold() for metric in metrics]  # not all disks tell capitals apart
    if twice := [m.key for i, m in enumerate(metrics) if m.key.casefold() in keys[:i]]:
        name = next(m.name for m in metrics if m.key == twice[0])
        raise ConfigError(
            f"metrics names {', '.join(dict.fromkeys(twice))} twice; a report has one column for each: give the second "
            f"a name of its own, as in {{name: {name}, column: {name}_2, ...}}"
        )


def settings_of(metric: MetricChoice) -> dict[str, Any]:
    """What its values depend on, beside the weights: reports with other settings are not compared."""
    found: dict[str, Any] = _without_places(asdict(metric))
    return found


def _without_places(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_places(each) for key, each in value.items() if key not in _PLACES}
    return [_without_places(each) for each in value] if isinstance(value, list | tuple) else value
