"""The Ray Data graph: raw photos → shards of the dataset.

One block is one shard: the photos of some whole identities, which become one output file. Blocks stream through the
steps and many are under way at once; pixels are read late, so that what waits between the steps is small. Models
live in actor pools. What a step has done with a shard stays done: running again resumes from there. The graph is built
for a window of shards at a time, so that nothing in the driver grows with the number of photos.
"""

import contextlib
import itertools
import logging
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import ray

from pm.data.config import AUTO, PreprocessConfig
from pm.data.records import Photo, to_table
from pm.data.run.pools import pools_of
from pm.data.run.progress import Board, Display, waiting
from pm.data.run.steps import Step, steps_of, work_of
from pm.data.run.worker import StepRunner
from pm.data.stages.stage import Place, Stage
from pm.errors import PmError, counted
from pm.gpus import see_only
from pm.model.base_sizes import BaseSizes
from pm.ray_env import ray_init, without_restart_warning
from pm.startup import collect_rarely

_WINDOW = 1024  # shards in one graph


def run_graph(
    config: PreprocessConfig,
    sizes: BaseSizes,
    stages: Sequence[Stage],
    shards: Iterator[list[Photo]],
    todo: int,
    done: int,
) -> None:
    """Send shards through the stages, a window at a time; starts Ray if it is needed and not there.

    Args:
        sizes: of the base.
        shards: those that are not finished.
        todo: photos in them.
        done: photos in the others.

    Raises:
        ConfigError: the cluster cannot hold the workers asked for.
        PmError: what a worker raised.
    """
    with waiting("starting Ray"):
        ray_init()
        order = ray.put(names := tuple(stage.name for stage in stages))
        with without_restart_warning():  # Ray would say it of the first actor of the graph; now it has said it
            board: Any = ray.remote(num_cpus=0, max_restarts=1)(Board)
            board = board.remote(order)
    print(f"preprocess: {counted(todo, 'photo')}, {done} done before; starting workers", file=sys.stderr, flush=True)
    run = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    graph = _Graph(config, sizes, steps_of(stages), names, run, board)
    with Display(lambda: ray.get(board.read.remote(), timeout=5), todo, done) as display:
        try:
            with _quiet_ray_data(), _user_errors():
                while window := [to_table(shard) for shard in itertools.islice(shards, _WINDOW)]:
                    for note in graph.over(window).iter_rows():
                        display.finished(note)
        finally:
            ray.kill(board)


class _Graph:
    """The steps in order: tasks, or as many actors as `pools_of` says where a step holds a model."""

    def __init__(
        self,
        config: PreprocessConfig,
        sizes: BaseSizes,
        steps: Sequence[Step],
        order: Sequence[str],
        run: str,
        board: Any,
    ):
        have = ray.cluster_resources()
        pools = pools_of(steps, config.workers, have.get("CPU", 0), have.get("GPU", 0))
        if config.dtype == AUTO:  # one for all models of a dataset, whichever of them gets a GPU
            on_gpu = any(share for _, share in pools.values())
            config = replace(config, dtype="bfloat16" if on_gpu else "float32")
        self.config, self.sizes, self.order, self.run, self.board = config, sizes, order, run, board
        self.steps = [(step, *pools.get(step.name, (None, 0.0))) for step in steps]

    def over(self, shards: Sequence[pa.Table]) -> ray.data.Dataset:
        """The graph over one window; its rows are the notes of finished shards."""
        data, workers = ray.data.from_blocks(list(shards)), self.config.workers
        for step, size, gpus in self.steps:
            make = self._runner_of(step, size, gpus)
            options: dict[str, Any] = {"batch_size": None, "batch_format": "pyarrow"}
            if size is None:
                data = data.map_batches(lambda table, make=make: make()(table), num_cpus=workers.task_cpus, **options)
                continue
            options |= {"compute": ray.data.ActorPoolStrategy(size=size), "num_cpus": workers.actor_cpus}
            data = data.map_batches(_actor(step.name), fn_constructor_args=(make,), num_gpus=gpus, **options)
        return data

    def _runner_of(self, step: Step, workers: int | None, gpus: float) -> Callable[[], StepRunner]:
        """What a worker calls to get its step ready."""
        # The worker gets these and not `self`: what it is sent must not hold the driver's own.
        config, order, run, board = self.config, self.order, self.run, self.board
        place = Place(self.sizes, "cuda" if gpus else "cpu", workers or 1)

        def report(stage: str, counts: Mapping[str, float]) -> None:
            board.add.remote(stage, dict(counts))

        def make() -> StepRunner:
            collect_rarely()
            see_only(gpus)
            work = lambda: work_of(step.stages, config, place)  # noqa: E731
            return StepRunner(step, order, work, config.output, run, report, workers)

        return make


def _actor(name: str) -> type:
    """A class for the actors of a step; Ray shows its name, so it says the step's."""

    class Actor:
        def __init__(self, make: Callable[[], StepRunner]) -> None:
            self.runner = make()

        def __call__(self, table: pa.Table) -> pa.Table:
            return self.runner(table)

    Actor.__name__ = name.capitalize()
    return Actor


@contextlib.contextmanager
def _quiet_ray_data() -> Iterator[None]:
    """Our one display instead of Ray Data's log; and one block stays one block, whatever its size."""
    context, log = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
    before = context.enable_progress_bars, context.target_max_block_size, log.level
    context.enable_progress_bars, context.target_max_block_size = False, None
    log.setLevel(logging.CRITICAL)  # what goes wrong is raised, and said in one line or with its own traceback
    try:
        yield
    finally:
        context.enable_progress_bars, context.target_max_block_size = before[:2]
        log.setLevel(before[2])


@contextlib.contextmanager
def _user_errors() -> Iterator[None]:
    """A `PmError` raised in a worker arrives wrapped by Ray; hand on the error itself."""
    try:
        yield
    except ray.exceptions.RayError as error:
        inner: BaseException | None = error
        while inner is not None and not isinstance(inner, PmError):
            inner = getattr(inner, "cause", None) or inner.__cause__
        if inner is None:
            raise
        cause = getattr(inner, "cause", inner)
        raise (cause if isinstance(cause, PmError) else type(inner)(str(cause))) from error
