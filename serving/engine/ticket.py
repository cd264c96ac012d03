"""What the loop knows of one image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from pm.sample import Request


@dataclass(eq=False)
class Ticket:
    """One image on its way through the loop.

    `emit` is called from the loop's thread, or the decoder's, with ("preview", image, number) for each preview, with
    ("queued", place) and ("progress", step, steps) where `progress` asks for them, and then once with one of
    ("image", image);
    ("error", kind, message, defect): kind is "invalid" (the client's to fix) or "failed", defect the exception to log
    if it is our fault, else None;
    ("stopped",): the loop has ended, and another replica may make the image.
    """

    request: Request  # without its identity
    tenant: str
    previews: int
    emit: Callable[[tuple], None]
    keys: Sequence[Any] = ()  # of the photos, in the cache
    embeds: list[Tensor | None] = field(default_factory=list)  # [D] each; None: from `references`
    references: list[Any] = field(default_factory=list)  # `pm.sample` references; None where an embedding is known
    notes: list[str] = field(default_factory=list)  # about the photos, for the client
    progress: bool = False
    place: int = 0  # in the queue, from 1, as last told
    gone: bool = False
    row: int | None = None
    shown: int = 0
