"""Face identity: the picture that the prediction leads to shall look like the person to a face recogniser.

L = 1 - cos(R(D(z_0')), R(D(z_0))), with z_0' the clean latents that the prediction says, z_0 those of the training
photo, D the VAE's decoder and R a recogniser (PhotoVerse, Chen et al. 2023, eq. 7; PuLID, Guo et al. 2024, eq. 5,
which draws the picture in four steps instead of one). A single step says nothing of a face in much noise: later
timesteps do not count. The recogniser is never the one that evaluates (`pm.toon.recogniser`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Gt, Le

from pm.errors import CheckpointError
from pm.train.terms.base import Seen, Term, TermChoice

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pm.train.diffusion import NoiseSchedule


@dataclass(frozen=True)
class FaceIdentity(TermChoice):
    recogniser: str  # a file of `python -m pm.toon.pretrain.recogniser`; or a CLIP vision tower's folder
    until: Annotated[float, Gt(0), Le(1)]  # share of the noise levels, from the clean end, that count

    def parts(self) -> tuple[str, ...]:
        return ("vae",)

    def build(self, model: Any, schedule: NoiseSchedule, scaling_factor: float) -> Term:
        if model.base.vae is None:
            raise CheckpointError(f"base {model.base.path} was loaded without its VAE; term identity decodes with it")
        recogniser = load_recogniser(self.recogniser)
        return _Recognised(model.base.vae, recogniser, schedule, scaling_factor, self.until)


class _Recognised(Term):
    def __init__(
        self, vae: Any, recogniser: nn.Module, schedule: NoiseSchedule, scaling_factor: float, until: float
    ) -> None:
        self._vae, self._recogniser, self._schedule = vae, recogniser, schedule
        self._scaling_factor, self._latest = scaling_factor, until * len(schedule)

    def __call__(self, seen: Seen) -> Tensor:
        import torch

        from pm.train.diffusion import clean_and_noise

        device = seen.latents.device
        clean, _ = clean_and_noise(self._schedule, seen.noisy.float(), seen.prediction.float(), seen.timesteps)
        counts = (seen.timesteps < self._latest) & ~seen.batch.drop_text
        # What does not count is not decoded: what a prediction in pure noise leads to may not be finite.
        clean = torch.where(counts[:, None, None, None], clean, seen.latents)
        with torch.autocast(device.type, enabled=False):
            self._recogniser.to(device)
            shown = self._embedded(clean)
            with torch.no_grad():
                wanted = self._embedded(seen.latents)
        return (1 - (shown * wanted).sum(-1)) * counts

    def _embedded(self, latents: Tensor) -> Tensor:
        """Unit vectors [B, E] float32 of latents [B, C, h, w] of the diffusion space."""
        vae = self._vae
        decoded = vae.decode((latents / self._scaling_factor).to(vae.dtype)).sample
        embedded: Tensor = self._recogniser((decoded.float() / 2 + 0.5).clamp(0, 1))
        return embedded


def load_recogniser(path: str) -> nn.Module:
    """Pixels float32 [B, 3, H, W] in 0..1 → unit vectors [B, E], frozen.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    from pathlib import Path

    place = Path(path).expanduser()
    if place.suffix == ".safetensors" or not place.is_dir():
        from pm.toon.recogniser import load_recogniser as load_toon

        return load_toon(place)
    from pm.train.terms._tower import Tower

    return Tower(place)
