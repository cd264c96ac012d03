"""The editing direction: changing the words shall change the picture as it does without the person.

MasterWeaver (Wei et al. 2024) aligns the direction in which an edit of the prompt moves the personalised model with the
direction in which it moves the original one: L = 1 - cos(e(y', id) - e(y, id), e0(y') - e0(y)), with y the caption, y'
an edited prompt, e the U-Net with the adapter and e0 without. Its directions are of features inside the U-Net; here
they are of its output, for which no layer has to be chosen. Gradients flow through e alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import MinLen

from pm.errors import ConfigError
from pm.model.config import AdapterConfig
from pm.train.terms.base import Seen, Term, TermChoice

if TYPE_CHECKING:
    from torch import Tensor

    from pm.model.kinds.base import AdapterChoice
    from pm.train.diffusion import NoiseSchedule


@dataclass(frozen=True)
class Editing(TermChoice):
    prompts: Annotated[tuple[str, ...], MinLen(1)]  # y', with {class_word}; each sample draws its own

    def __post_init__(self) -> None:
        lacking = next((prompt for prompt in self.prompts if "{class_word}" not in prompt), None)
        if lacking is not None:
            raise ConfigError(f"prompt {lacking!r} of term editing lacks '{{class_word}}'; write it in")

    def check(self, adapter: AdapterChoice) -> None:
        if not isinstance(adapter, AdapterConfig) or adapter.merge != "insert":
            merge = getattr(adapter, "merge", None)
            raise ConfigError(
                f"term editing needs model=photomaker with merge=insert, not model={adapter.name}"
                + (f" with merge={merge}" if merge else "")
            )

    def parts(self) -> tuple[str, ...]:
        return ("text",)

    def build(self, model: Any, schedule: NoiseSchedule, scaling_factor: float) -> Term:
        return _Edited(model, self.prompts)


class _Edited(Term):
    def __init__(self, model: Any, prompts: Sequence[str]) -> None:
        self._model, self._prompts = model, tuple(prompts)

    def __call__(self, seen: Seen) -> Tensor:
        import torch
        import torch.nn.functional as F

        from pm.model.conditioning import Conditioning
        from pm.model.lora import lora_off

        batch, model = seen.batch, self._model
        text, index = self._edited(batch)
        merged = model.condition(text, index, batch.id_pixels, batch.id_counts, batch.time_ids)
        moved = model.predict(seen.noisy, seen.timesteps, merged).float() - seen.prediction.float()
        with torch.no_grad(), lora_off(model.unet):
            texts = (text, batch.text)
            after, before = (
                model.predict(seen.noisy, seen.timesteps, Conditioning.from_text(each, batch.time_ids)).float()
                for each in texts
            )
        cosine = F.cosine_similarity(moved.flatten(1), (after - before).flatten(1), dim=1)
        return (1 - cosine) * ~batch.drop_text

    def _edited(self, batch: Any) -> tuple[Any, Tensor]:
        """Text features of each sample's edited prompt, and where its class word stands, [B] int64."""
        import torch

        from pm.model.base import encode_text
        from pm.model.prompt import class_token_index, mark, tokenize

        base, count = self._model.base, len(self._prompts)
        chosen = [self._prompts[seed % count] for seed in batch.seeds.tolist()]
        prompts = [
            mark(prompt.format(class_word=word), word) for prompt, word in zip(chosen, batch.class_words, strict=True)
        ]
        index = torch.tensor([class_token_index(base.tokenizers[0], prompt) for prompt in prompts])
        text = encode_text(base, tokenize(base.tokenizers, [prompt.text for prompt in prompts]))
        return text.to(batch.embeds.device, batch.embeds.dtype), index.to(batch.embeds.device)
