"""The kind `tracker`: where runs are recorded beside their own folder (`conf/tracker/*.yaml`)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pm.choice import Choice
from pm.errors import PmError, reason


@dataclass(frozen=True)
class RunInfo:
    """What is recorded."""

    name: str
    job: str  # "train", "evaluate" or "sweep"
    settings: Mapping[str, Any]  # the whole configuration as plain values
    group: str | None = None  # runs that belong together
    step: int = 0  # steps that are done already; what was recorded of later ones belongs to an attempt that was lost


class Tracker:
    """One recorded run. All methods do nothing here; any of them may fail without harm to the run (see `start`)."""

    def metrics(self, values: Mapping[str, Any], step: int) -> None:
        """Record numbers by name after `step` optimizer updates."""

    def picture(self, name: str, path: Path, step: int) -> None:
        """Record a picture file."""

    def page(self, name: str, path: Path) -> None:
        """Record an HTML file that needs no other."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Record a table."""

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Record the last values and close."""


@dataclass(frozen=True)
class TrackerChoice(Choice, group="tracker", package="pm.track"):
    """A tracker and its settings."""

    name: str

    def check(self) -> None:
        """Fail early, before any work, when this tracker cannot work here.

        Raises:
            ConfigError: a package is missing.
        """

    def build(self, folder: Path, run: RunInfo, tell: Callable[[str], None]) -> Tracker:
        """Begin to record.

        Args:
            folder: of the run; the tracker's own files go into it.
            run: what is recorded; a resumed training run is passed again, with `run.step` above 0.
            tell: called with a line about what does not work and what is done instead.
        """
        raise NotImplementedError


def start(choice: TrackerChoice, folder: Path, run: RunInfo, tell: Callable[[str], None]) -> Tracker:
    """A tracker whose failures never stop the run: each is reported in one line.

    Raises:
        PmError: settings of the tracker that the user must change.
    """
    return _Guarded(choice, folder, run, tell)


class _Guarded(Tracker):
    def __init__(self, choice: TrackerChoice, folder: Path, run: RunInfo, tell: Callable[[str], None]):
        self._name, self._tell = choice.name, tell
        self._inner = Tracker()
        with self._no_failure("start"):
            self._inner = choice.build(folder, run, tell)

    def metrics(self, values: Mapping[str, Any], step: int) -> None:
        with self._no_failure("log"):
            self._inner.metrics(values, step)

    def picture(self, name: str, path: Path, step: int) -> None:
        with self._no_failure("log a picture"):
            self._inner.picture(name, path, step)

    def page(self, name: str, path: Path) -> None:
        with self._no_failure("log a page"):
            self._inner.page(name, path)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        with self._no_failure("log a table"):
            self._inner.table(name, columns, rows)

    def finish(self, summary: Mapping[str, Any]) -> None:
        with self._no_failure("finish"):
            self._inner.finish(summary)

    @contextmanager
    def _no_failure(self, what: str) -> Iterator[None]:
        try:
            yield
        except PmError:
            raise
        except Exception as error:  # a service that is gone, the network, a full disk: none is worth a training
            self._tell(
                f"tracker={self._name} could not {what} ({reason(error)}); the run continues, "
                "and its own files have everything"
            )
