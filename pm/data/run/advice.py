"""What to do about the photos that were left out: which settings cost most, and what to add to the same command."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pm.data.records import Reject
from pm.data.stages.stage import Remedy, Stage
from pm.errors import counted

_WORTH_SAYING = 0.2  # of the photos found: where fewer are lost, the filters do what they are for
_NAMES = 3  # people named in one line


@dataclass
class _Loss:
    """All rejects of one reason."""

    remedy: Remedy
    count: int = 0
    usable: list[float] = field(default_factory=list)  # measured values within the remedy's limit
    threshold: float = 0.0
    identities: dict[str, None] = field(default_factory=dict)

    def add(self, identity: str, reject: Reject) -> None:
        self.count += 1
        self.identities.setdefault(identity)
        if not self.remedy.setting or reject.value is None or reject.threshold is None:
            return
        self.threshold = reject.threshold
        beyond = (
            reject.value < self.remedy.limit if reject.value < reject.threshold else reject.value > self.remedy.limit
        )
        if not beyond:
            self.usable.append(reject.value)

    @property
    def override(self) -> str:
        """The setting with the value that lets in all usable ones; "" without one."""
        if not self.usable:
            return ""
        lower = min(self.usable) < self.threshold
        value = min(self.usable) if lower else max(self.usable)
        rounded = _rounded(value, down=lower)
        bounded = max(rounded, self.remedy.limit) if lower else min(rounded, self.remedy.limit)
        return f"{self.remedy.setting}={bounded:.10g}"


def advise(rejects: Iterable[tuple[str, Reject]], found: int, stages: Sequence[Stage]) -> list[str]:
    """Lines for the user, the most expensive reason first; none where few photos were lost.

    Args:
        rejects: (identity, why) of each photo that was left out.
        found: photos in all.
        stages: they know which setting belongs to which reason.
    """
    remedies = {(stage.name, reason): remedy for stage in stages for reason, remedy in stage.remedies.items()}
    losses = _losses(rejects, remedies)
    lost = sum(loss.count for loss in losses)
    if lost < _WORTH_SAYING * found:
        return []
    lines = []
    ours = [loss for loss in losses if loss.usable and not loss.remedy.follows] or [
        loss for loss in losses if loss.usable
    ]
    if ours:
        most = ours[0]
        said = f"{most.remedy.setting}={most.threshold:.10g} cost most photos, {most.count} of {found}"
        count = sum(len(loss.usable) for loss in ours)
        overrides = " ".join(dict.fromkeys(loss.override for loss in ours))
        lines.append(
            f"{said}; the same command with {overrides} continues in the same folder and looks at {count} of them again"
        )
    for loss in losses:
        if loss.remedy.words:
            names = list(loss.identities)
            whose = ", ".join(names[:_NAMES]) + (f" and {len(names) - _NAMES} more" if len(names) > _NAMES else "")
            lines.append(f"{counted(loss.count, 'photo')}: {loss.remedy.words.format(identities=whose)}")
    return lines


def _losses(rejects: Iterable[tuple[str, Reject]], remedies: Mapping[tuple[str, str], Remedy]) -> list[_Loss]:
    found: dict[tuple[str, str], _Loss] = {}
    for identity, reject in rejects:
        key = (reject.stage, reject.reason)
        if key in remedies:
            found.setdefault(key, _Loss(remedies[key])).add(identity, reject)
    return sorted(found.values(), key=lambda loss: -loss.count)


def _rounded(value: float, *, down: bool) -> float:
    """Two digits, so that the number is one that somebody would type."""
    if value == 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    return round((math.floor if down else math.ceil)(round(value / step, 6)) * step, 10)
