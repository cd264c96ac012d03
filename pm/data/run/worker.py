"""Runs some stages on one shard after the other, so that neither a bad photo nor a killed process costs much.

A step is what one worker does at a time: one or more stages. Its result for a shard is kept in `_work/` until the next
step's is; a run that was killed, or a worker that takes over from one that was, resumes from there. A photo that makes
a stage fail is rejected with the error; one that kills the process is found by trying the photos one by one.
"""

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pm.data.dataset.checkpoints import (
    checkpoint_stats,
    checkpoints,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from pm.data.dataset.writer import WORK as WORK_FOLDER
from pm.data.dataset.writer import shard_note, write_shard
from pm.data.records import Photo, from_table, groups, to_table
from pm.data.run.steps import Step
from pm.data.stages.stage import Work
from pm.errors import DataError, PmError
from pm.files import write_json, writing

Report = Callable[[str, Mapping[str, float]], None]
_DEATHS = 2  # a photo that was being looked at in so many deaths of a worker caused them
_STARTS = 5  # workers that died while loading before the run gives up
_SYSTEMATIC = 8  # so many photos and all of them failing: the fault is not theirs


class StepRunner:
    """The stages of one step; called with a shard as an Arrow table (`FLIGHT_SCHEMA`).

    The last step's result is the shard's file in the dataset; it gives the shard's note instead of photos.

    Args:
        step: which stages it does.
        order: names of all stages of the dataset.
        make: builds the work of the step's stages, once.
        output: the dataset's folder.
        run: name of this run; what a killed run left undone counts against nobody.
        report: told (stage, counts) after each part of the work.
        workers: actors of this step, of which so many may be loading at a time; None: a task, which loads no model.
    """

    def __init__(
        self,
        step: Step,
        order: Sequence[str],
        make: Callable[[], Sequence[Work]],
        output: str | Path,
        run: str,
        report: Report,
        workers: int | None,
    ):
        self.step, self.order, self.report, self.last = step, tuple(order), report, step.after == order[-1]
        self.work, self.output, self.run = Path(output, WORK_FOLDER), output, run
        self.attempts = self.work / "attempts" / run
        self.attempts.mkdir(parents=True, exist_ok=True)
        with contextlib.nullcontext() if workers is None else self._start_guard(workers):
            self.parts = list(make())

    def __call__(self, table: pa.Table) -> pa.Table:
        shard = table.column("shard")[0].as_py()
        note = shard_note(self.output, shard)
        if note is not None:
            return pa.Table.from_pylist([note]) if self.last else table
        done = latest_checkpoint(self.work, shard, self.order)
        behind = self.order[: self.order.index(done) + 1] if done else ()
        if self.step.after in behind:
            for part in self.parts:
                self.report(part.name, {"seen": table.num_rows})
            return load_checkpoint(self.work, shard, done) if done == self.step.after else table
        stats = checkpoint_stats(self.work, shard, done)
        with self._deaths(shard) as deaths:
            # Other settings may have cut the steps elsewhere: what was kept can be from the middle of this one.
            photos = from_table(load_checkpoint(self.work, shard, done) if done in self.step.stages else table)
            for part in self.parts:
                if part.name not in behind:
                    photos = self._timed(part, photos, stats, deaths)
            return self._keep(photos, shard, stats)

    def _timed(
        self, part: Work, photos: list[Photo], stats: dict[str, dict[str, Any]], deaths: "_Deaths"
    ) -> list[Photo]:
        before, start = sum(not p.reject for p in photos), time.monotonic()
        photos = _one_by_one(part, photos, deaths) if deaths.careful else together(part, photos)
        seconds = time.monotonic() - start
        kept = sum(not p.reject for p in photos)
        broken = sum(p.reject is not None and p.reject.reason in ("failed", "crashed") for p in photos)
        entry = stats.setdefault(part.name, {"seconds": 0.0, "run": self.run})
        entry["seconds"] += seconds
        counts = {"seen": len(photos), "in": before, "rejected": before - kept, "seconds": seconds}
        self.report(part.name, counts | {"failed": broken})
        return photos

    def _keep(self, photos: list[Photo], shard: int, stats: dict[str, dict[str, Any]]) -> pa.Table:
        with writing(self.output, "output="):
            if self.last:
                table = pa.Table.from_pylist([write_shard(photos, self.output, stats)])
            else:
                table = to_table(photos)
                save_checkpoint(table, self.work, shard, self.step.after, stats)
        for path, stage in checkpoints(self.work, shard):
            if self.last or stage != self.step.after:
                path.unlink(missing_ok=True)
        return table

    @contextlib.contextmanager
    def _start_guard(self, workers: int) -> Iterator[None]:
        """Count the workers that never came to the end of loading; `workers` of them may be loading now."""
        mark = self.attempts / f"start-{self.step.name}-{os.getpid()}-{time.monotonic_ns()}"
        if len(list(self.attempts.glob(f"start-{self.step.name}-*"))) >= _STARTS + workers:
            raise DataError(
                f"{_STARTS} workers for {self.step.name} were killed while they loaded, mostly for lack of memory; "
                f"lower workers.{self.step.name} or use smaller models, then run the same command again"
            )
        mark.touch()
        try:
            yield
        finally:  # an error is not a death
            mark.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _deaths(self, shard: int) -> Iterator["_Deaths"]:
        deaths = _Deaths(self.attempts / f"shard-{shard:05d}-{self.step.name}.json")
        try:
            yield deaths
        finally:  # an error is not a death
            deaths.path.unlink(missing_ok=True)


class _Deaths:
    """Which photo a worker was looking at when it died; survives the worker, not the run."""

    def __init__(self, path: Path):
        self.path, self.counts, self.careful = path, {}, path.exists()
        if self.careful:
            state = json.loads(path.read_text())
            self.counts = state["counts"]
            if state["current"]:
                self.counts[state["current"]] = self.counts.get(state["current"], 0) + 1
        self.look_at("")

    def look_at(self, photo: str) -> None:
        write_json(self.path, {"counts": self.counts, "current": photo}, sync=False)


def together(part: Work, photos: list[Photo]) -> list[Photo]:
    """All photos of a shard at once; if that fails, in the smallest groups that can be judged alone.

    What fails alone is rejected as `failed`, with the error.
    """
    try:
        return part.function(photos)
    except PmError:
        raise
    except Exception as error:
        first = error
    result: dict[str, Photo] = {p.photo: p for p in photos}
    failed = 0
    for group in _groups(part, photos):
        try:
            done = part.function(group)
        except PmError:
            raise
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            logging.getLogger(__name__).warning("%s failed on %s: %s", part.name, group[0].photo, said)
            done = [p.rejected(part.name, "failed", detail=said) for p in group]
            failed += len(group)
        result.update((p.photo, p) for p in done)
    if failed >= _SYSTEMATIC and failed == sum(not p.reject for p in photos):
        raise first
    return [result[p.photo] for p in photos]


def _one_by_one(part: Work, photos: list[Photo], deaths: _Deaths) -> list[Photo]:
    """After a worker's death: note what is looked at, and leave out what was looked at in several deaths."""
    result: dict[str, Photo] = {p.photo: p for p in photos}
    for group in _groups(part, photos):
        key = f"{part.name}:{group[0].photo}"
        if deaths.counts.get(key, 0) >= _DEATHS:
            detail = "the worker was killed each time it looked at this"
            done = [p.rejected(part.name, "crashed", deaths.counts[key], _DEATHS, detail) for p in group]
        else:
            deaths.look_at(key)
            done = together(part, group)
        result.update((p.photo, p) for p in done)
    deaths.look_at("")
    return [result[p.photo] for p in photos]


def _groups(part: Work, photos: list[Photo]) -> list[list[Photo]]:
    """The smallest groups of photos still in that the stage can judge."""
    people = groups(photos).values()
    return [[p] for members in people for p in members] if part.per_photo else [list(members) for members in people]
