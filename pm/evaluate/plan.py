"""From rows to pieces of work: people, batches, and pictures to measure. What is done is left out."""

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pm.evaluate.maker import Made
from pm.evaluate.metrics.base import Measured
from pm.evaluate.progress import Line
from pm.evaluate.rows import Entry
from pm.evaluate.store import Item, Store
from pm.evaluate.values import Known, lacking
from pm.files import write_bytes
from pm.tasks import Task, batches

Finished = Callable[[Entry, Known, Mapping[str, str]], None]  # the values, and why there are none in a column


class RowPlan:
    """The pieces of one row."""

    def __init__(self, store: Store, entry: Entry, batch_size: int, known: Known, finished: Finished) -> None:
        """
        Args:
            store: where everything is.
            entry: the row.
            batch_size: of the sampler.
            known: values that need not be measured again.
            finished: called with what was measured when all of the row is done.
        """
        self.store, self.entry, self._finished = store, entry, finished
        self._missing = store.missing(entry.key)
        self._batches = [b for b in batches(store.items(), batch_size) if self._missing.intersection(b)]
        asked = len(store.items())
        self._line = Line(entry.label, asked, asked - len(self._missing))
        self._tunes = entry.choice is not None and entry.choice.tunes_per_person
        self._known = {name: list(of) for name, of in known.items()}
        self._why: dict[str, str] = {}  # of metrics that a worker cannot have
        self._open = 0  # pieces to measure

    def tasks(self) -> list[Task]:
        making = self._personal() + self._making()
        return making + self._measuring(frozenset(task.key for task in making))

    def _first_trials(self) -> dict[str, int]:
        """A trial of each person."""
        return {trial.person: t for t, trial in reversed(list(enumerate(self.store.trials)))}

    def _personal(self) -> list[Task]:
        if not self._tunes:
            return []
        wanted = {self.store.trials[t].person for batch in self._batches for t, _ in batch}
        first = self._first_trials()
        return [
            Task(
                self._personal_key(person),
                "personalise",
                functools.partial(self._arguments, first[person]),
                functools.partial(self._keep_state, person),
            )
            for person in sorted(wanted, key=first.__getitem__)
            if not self.store.state_path(self.entry.key, person).is_file()
        ]

    def _making(self) -> list[Task]:
        tasks = []
        personal = {task.key for task in self._personal()}
        for i, batch in enumerate(self._batches):
            people = {self.store.trials[t].person for t, _ in batch}
            after = frozenset(self._personal_key(person) for person in people) & personal
            tasks.append(
                Task(
                    f"{self.entry.label}, batch {i + 1} of {len(self._batches)}",
                    "make",
                    functools.partial(self._arguments, batch),
                    functools.partial(self._keep_pictures, batch),
                    after,
                )
            )
        return tasks

    def _measuring(self, after: frozenset[str]) -> list[Task]:
        """The same columns of the same person in one piece."""
        pieces: dict[tuple[str, tuple[str, ...]], list[int]] = defaultdict(list)
        for t, columns in lacking(self.store, self._known).items():
            pieces[self.store.trials[t].person, tuple(sorted(columns))].append(t)
        self._open = len(pieces)
        return [
            Task(
                f"{self.entry.label}, measuring {', '.join(columns)} of {person}",
                "measure",
                functools.partial(self._pictures, trials, frozenset(columns)),
                functools.partial(self._keep_values, trials),
                after,
            )
            for (person, columns), trials in pieces.items()
        ]

    def _personal_key(self, person: str) -> str:
        return f"{self.entry.label}, personalising for {person}"

    def _arguments(self, what: Any) -> tuple:
        self._line.begin()
        common = (self.entry.choice, self.entry.references or 0, what)
        if isinstance(what, int) or not self._tunes:
            return common
        people = {self.store.trials[t].person for t, _ in what}
        return (*common, {p: self.store.state_path(self.entry.key, p).read_bytes() for p in people})

    def _pictures(self, trials: Sequence[int], columns: frozenset[str]) -> tuple:
        return trials, columns, pngs_of(self.store, self.entry.key, trials)

    def _keep_state(self, person: str, made: Made) -> None:
        write_bytes(self.store.state_path(self.entry.key, person), made.files[0])
        self.store.note_cost(self.entry.key, people=1, seconds=made.seconds, peak=made.peak)

    def _keep_pictures(self, batch: Sequence[Item], made: Made) -> None:
        new = 0
        for item, file in zip(batch, made.files, strict=True):
            if item in self._missing:  # of the others there are files already
                self.store.save(self.entry.key, item, file)
                new += 1
        self.store.note_about(self.entry.key, made.about)
        self.store.note_cost(self.entry.key, pictures=len(batch), seconds=made.seconds, peak=made.peak)
        self._line.add(new)

    def _keep_values(self, trials: Sequence[int], values: Mapping[str, Sequence[Measured] | str]) -> None:
        for name, found in values.items():
            if isinstance(found, str):
                self._why[name] = found
                continue
            for t, measured in zip(trials, found, strict=True):
                self._known[name][t] = measured
        self._open -= 1
        if not self._open:
            self._finished(self.entry, self._known, self._why)


def pngs_of(store: Store, key: str, trials: Sequence[int]) -> list[list[bytes]]:
    """The files of all images of trials."""
    seeds = [range(len(store.trials[t].seeds)) for t in trials]
    return [[store.path(key, (t, n)).read_bytes() for n in of] for t, of in zip(trials, seeds, strict=True)]


def cost_of(store: Store, key: str) -> dict[str, float | None]:
    """Fields of a report's row: seconds an image and a person, and memory at most."""
    costs = store.costs(key)
    pictures, people = ([c for c in costs if c.get(what)] for what in ("pictures", "people"))

    def each(pieces: Sequence[dict[str, float]], what: str) -> float | None:
        return sum(c["seconds"] for c in pieces) / sum(c[what] for c in pieces) if pieces else None

    peak = max((c["peak"] for c in costs if c.get("peak")), default=None)
    return {
        "seconds_per_image": each(pictures, "pictures"),
        "seconds_to_personalise": each(people, "people"),
        "peak_gib": None if peak is None else peak / 2**30,
    }


def plain(choice: Any) -> dict[str, Any]:
    """The settings of a part, as JSON has them."""
    return dataclasses.asdict(choice)
