"""FastComposer: one fused token for the person (Xiao et al. 2023), by an adapter file, ours or published.

It samples as PhotoMaker does, delayed subject conditioning included, which it was the first to have.
"""

from dataclasses import dataclass
from typing import ClassVar

from pm.methods.photomaker import PhotoMakerMethod


@dataclass(frozen=True)
class FastComposerMethod(PhotoMakerMethod):
    title: ClassVar[str] = "FastComposer"
    kind: ClassVar[str | None] = "fastcomposer"

    def label(self) -> str:
        return self.title
