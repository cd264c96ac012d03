"""What all workers must agree on between two steps: to save and end, or to save because a node is taken away."""

import torch
import torch.distributed as dist

from pm.train.engine.base import world_size
from pm.train.run.context import TrainContext

_STOP, _ASK = 1, 2


class Signals:
    """Rank 0 looks, the others are told by a broadcast that runs beside the step, so that nobody waits for it.

    The broadcast has a process group of its own on the CPU: on a GPU, reading it waits for no kernel.
    """

    def __init__(self, context: TrainContext):
        self._context = context
        self._group = dist.new_group(backend="gloo") if world_size() > 1 else None
        self._flags = torch.zeros(1, dtype=torch.int32)
        self._work: dist.Work | None = None

    def begin(self) -> None:
        """Before a step. Collective."""
        if self._context.rank == 0:
            self._flags[0] = _STOP * self._context.stop_requested() + _ASK * self._context.should_ask()
        if self._group is not None:
            self._work = dist.broadcast(self._flags, 0, group=self._group, async_op=True)

    def end(self) -> tuple[bool, bool]:
        """After the step: (save and end, save because a node will be taken away). Collective."""
        if self._work is not None:
            self._work.wait()
        flags = int(self._flags[0])
        return bool(flags & _STOP), bool(flags & _ASK) and self._context.preempted()
