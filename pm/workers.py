"""Tasks done by this process, or by workers of Ray."""

from collections.abc import Callable, Sequence
from typing import Any

from pm.tasks import Task, WorkersConfig


def run_tasks(make: Callable[[], Any], tasks: Sequence[Task], workers: WorkersConfig) -> None:
    """Do all tasks, each after those that it names; the results do not depend on how many workers there are.

    Args:
        make: makes a worker, whose methods the tasks call; picklable, as are arguments and results.
        tasks: where nothing else counts, the first are started first.
        workers: how many.

    Raises:
        PmError: of a task, or a worker was lost three times with the same task.
    """
    if not tasks:
        return
    if workers.num == 0:
        return _run_here(make, tasks)
    from pm.ray_env import ray_init  # importing Ray takes seconds
    from pm.ray_pool import run_on_ray

    ray_init()
    run_on_ray(make, tasks, workers)


def _run_here(make: Callable[[], Any], tasks: Sequence[Task]) -> None:
    worker, waiting = make(), list(tasks)
    ended: set[str] = set()
    while waiting:
        task = next(task for task in waiting if task.after <= ended)
        waiting.remove(task)
        task.done(getattr(worker, task.call)(*task.arguments()))
        ended.add(task.key)
