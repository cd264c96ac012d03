"""Tasks on actors of Ray: whoever is free takes the next one; what a lost actor was doing is done again."""

import collections
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError

from pm.errors import ConfigError, PmError
from pm.gpus import see_only
from pm.tasks import Task, WorkersConfig

_ATTEMPTS = 3  # of a task that loses its worker
_ON_CPU = 2  # workers where there is no GPU


class _Actor:
    """A worker in a process of its own."""

    def __init__(self, make: Callable[[], Any], threads: int, gpus: float) -> None:
        see_only(gpus)
        import torch

        if not gpus:
            torch.set_num_threads(threads)
        self._worker = make()

    def call(self, name: str, *arguments: Any) -> Any:
        """The result, or the error of a user's mistake: Ray would wrap it."""
        try:
            return getattr(self._worker, name)(*arguments)
        except PmError as error:
            return error


def run_on_ray(make: Callable[[], Any], tasks: Sequence[Task], workers: WorkersConfig) -> None:
    """`pm.workers.run_tasks` on a Ray that this process is connected to."""
    pool = _Pool(make, tasks, workers)
    try:
        while pool.step():
            pass
    finally:
        pool.close()


class _Pool:
    """The actors and what each is doing."""

    def __init__(self, make: Callable[[], Any], tasks: Sequence[Task], workers: WorkersConfig) -> None:
        resources = ray.cluster_resources()
        gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
        most = gpus or max(1, cpus // workers.threads)
        count = min(gpus or _ON_CPU, most) if workers.num is None else workers.num
        if count > most:
            raise ConfigError(
                f"workers.num={count}, but there are {gpus} GPUs and {cpus} CPUs for workers.threads={workers.threads} "
                f"each; use workers.num={most} or fewer"
            )
        needs: dict[str, Any] = {"num_gpus": 1, "num_cpus": 0} if gpus else {"num_cpus": workers.threads}
        self._actor = ray.remote(**needs)(_Actor)
        self._made, self._threads, self._gpus = ray.put(make), workers.threads, min(1, gpus)
        self._waiting, self._ended = list(tasks), set[str]()
        self._lost: collections.Counter[str] = collections.Counter()
        self._idle: list[Any] = [self._new() for _ in range(min(count, len(tasks)))]
        self._running: dict[Any, tuple[Any, Task]] = {}

    def step(self) -> bool:
        """Give work to whoever is free, wait for a result; False when all is done."""
        self._start()
        if not self._running:
            return False
        ready, _ = ray.wait(list(self._running))
        actor, task = self._running.pop(ready[0])
        try:
            result = ray.get(ready[0])
        except RayActorError:
            self._again(actor, task)
            return True
        if isinstance(result, PmError):
            raise result
        self._idle.append(actor)
        self._start()  # before the result is looked at, so that nobody waits for that
        task.done(result)
        self._ended.add(task.key)
        return True

    def close(self) -> None:
        for actor in [*self._idle, *(actor for actor, _ in self._running.values())]:
            ray.kill(actor)

    def _new(self) -> Any:
        return self._actor.remote(self._made, self._threads, self._gpus)

    def _start(self) -> None:
        while self._idle:
            task = next((task for task in self._waiting if task.after <= self._ended), None)
            if task is None:
                return
            self._waiting.remove(task)
            actor = self._idle.pop(0)
            self._running[actor.call.remote(task.call, *task.arguments())] = (actor, task)

    def _again(self, actor: Any, task: Task) -> None:
        """Do the task of a lost actor with a new one."""
        self._lost[task.key] += 1
        if self._lost[task.key] == _ATTEMPTS:
            raise PmError(
                f"{task.key}: its worker was lost {_ATTEMPTS} times, most likely for want of memory; use fewer workers "
                "(workers.num), a smaller sampler.batch_size, or a machine with more; what is finished is kept"
            )
        print(f"note: a worker was lost; {task.key} is done again", flush=True)
        ray.kill(actor)
        self._waiting.insert(0, task)
        self._idle.append(self._new())
