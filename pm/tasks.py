"""Work in pieces: what a piece is, and how many workers there are for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from annotated_types import Ge

T = TypeVar("T")


def batches(items: Sequence[T], size: int) -> list[list[T]]:
    """Always the same ones, whatever is done already: an image may depend, in its last bit, on its batch's size."""
    return [list(items[i : i + size]) for i in range(0, len(items), size)]


@dataclass(frozen=True)
class WorkersConfig:
    """Who works (`workers.*`)."""

    num: Annotated[int, Ge(0)] | None  # 0: this process alone; None: one for each GPU, or 2 where there is none
    threads: Annotated[int, Ge(1)]  # of each worker on the CPU; another number may change the last bit of a result


@dataclass(frozen=True)
class Task:
    """One call of a worker. Its result goes to `done`, in the process that hands out the tasks."""

    key: str  # unique
    call: str  # method of the worker
    arguments: Callable[[], tuple]  # asked for when the task starts, so that they need no memory before
    done: Callable[[Any], None]
    after: frozenset[str] = field(default_factory=frozenset)  # keys of tasks that have to be done before
