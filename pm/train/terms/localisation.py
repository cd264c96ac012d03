"""Attention kept on the person: a loss on what cross-attention gives to the identity tokens.

`against=mask` is FastComposer's (Xiao et al. 2023, eq. 5 and 6): mean attention outside the person's mask minus that
inside. `against=class_word` is after the face-wise attention loss of SeFi-IDE (Li et al. 2024): the squared distance
to the map that the base itself gives a word of its own for a person, here the class word without the adapter. Both maps
are divided by their means, so where is compared and not how much; it needs no mask, and a U-Net call more.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge

from pm.errors import ConfigError
from pm.model.config import AdapterConfig
from pm.train.terms.base import Seen, Term, TermChoice

if TYPE_CHECKING:
    from torch import Tensor

    from pm.model.kinds.base import AdapterChoice
    from pm.train.diffusion import NoiseSchedule


@dataclass(frozen=True)
class Localisation(TermChoice):
    against: Literal["mask", "class_word"]
    blocks: Annotated[int, Ge(1)]  # of the U-Net that are looked at, from the middle

    def check(self, adapter: AdapterChoice) -> None:
        if not isinstance(adapter, AdapterConfig):
            raise ConfigError(
                f"term localisation looks at identity tokens in the text, which model={adapter.name} does not have or "
                "looks at by itself; use model=photomaker"
            )

    def build(self, model: Any, schedule: NoiseSchedule, scaling_factor: float) -> Term:
        return _Localised(model, self)


class _Localised(Term):
    def __init__(self, model: Any, settings: Localisation) -> None:
        from pm.model.localisation import AttentionWatch

        self._model, self._settings = model, settings
        self._watch = AttentionWatch(model.unet, settings.blocks)
        self._maps: dict[int, Tensor] = {}

    def watching(self, batch: Any) -> AbstractContextManager[Any]:
        from pm.model.localisation import token_places

        counts = self._model.tokens_of_each(batch.id_counts)
        return self._watch.watching(*token_places(batch.class_index, counts))

    def __call__(self, seen: Seen) -> Tensor:
        import torch

        from pm.model.localisation import balanced_l1

        maps, batch = self._watch.seen(), seen.batch
        if self._settings.against == "mask":
            losses = [balanced_l1(attention, batch.mask) for attention in maps.values()]
        else:
            wanted = self._of_class_word(seen)
            losses = [(_relative(maps[n]) - _relative(wanted[n])).square().mean((1, 2)) for n in maps]
        return torch.stack(losses).mean(0) * ~batch.drop_text

    def _of_class_word(self, seen: Seen) -> dict[int, Tensor]:
        """The base's own maps of the class word in the same captions and latents."""
        import torch

        from pm.model.conditioning import Conditioning
        from pm.model.lora import lora_off

        batch, model, watch = seen.batch, self._model, self._watch
        plain, before = Conditioning.from_text(batch.text, batch.time_ids), (watch.index, watch.share)
        with torch.no_grad(), lora_off(model.unet), watch.watching(batch.class_index) as maps:
            model.predict(seen.noisy, seen.timesteps, plain)
        watch.index, watch.share = before  # activations of the forward pass may be computed once more
        return dict(maps)


def _relative(attention: Tensor) -> Tensor:
    """[B, H, N] float32 of mean 1 over the positions of each head."""
    values = attention.float()
    return values / values.mean(-1, keepdim=True).clamp_min(1e-12)
