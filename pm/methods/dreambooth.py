"""DreamBooth (Ruiz et al. 2023): LoRA on the U-Net learns a rare word from one person's photos."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge, MinLen

from pm.methods.base import Method, MethodChoice
from pm.methods.pipeline import load_pipeline
from pm.methods.trial import Photo, Trial
from pm.methods.tuning import Tuning

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pm.methods.learn import Examples
    from pm.model.config import BaseConfig
    from pm.model.fused import FusedLora
    from pm.sample.config import SamplerConfig
    from pm.sample.pipeline import PhotoMakerPipeline
    from pm.sample.request import Request

_KEPT = 2  # people whose fused matrices are kept: at SDXL's size each takes 2 GB


@dataclass(frozen=True)
class DreamBooth(MethodChoice):
    token: str  # a word that means nothing to the base
    subject: str  # the person in prompts, with {token} and {class_word}
    train: Tuning
    rank: Annotated[int, Ge(1)]  # of the LoRA; alpha = rank
    targets: Annotated[tuple[str, ...], MinLen(1)]  # matrices that get one
    prior_weight: Annotated[float, Ge(0)]  # of the loss on pictures of the class; 0: none are made
    prior_batch_size: Annotated[int, Ge(1)]  # of those pictures in each update
    prior_images: Annotated[int, Ge(1)]  # of each class word
    prior_folder: str | None  # where they are kept for all people and runs; None: in memory

    title: ClassVar[str] = "DreamBooth"
    tunes_per_person: ClassVar[bool] = True

    def load(self, base: BaseConfig, sampler: SamplerConfig, device: torch.device, dtype: torch.dtype) -> Method:
        return DreamBoothMethod(load_pipeline(base, sampler, device, dtype), sampler, self)


class DreamBoothMethod(Method):
    """A state holds the person's LoRA, in diffusers' names: saved as it is, `load_lora_weights` takes it."""

    def __init__(self, pipeline: PhotoMakerPipeline, sampler: SamplerConfig, settings: DreamBooth) -> None:
        self.pipeline, self._sampler, self.settings = pipeline, sampler, settings
        self.about = {"fingerprint": pipeline.base.fingerprint, "steps": settings.train.steps, "rank": settings.rank}
        self._class: dict[str, Examples] = {}
        self._used: list[tuple[Any, FusedLora]] = []  # the last ones, and the states that they are of

    def personalise(self, references: Sequence[Photo], class_word: str, seed: int) -> dict[str, Any]:
        """Learn the person: {"lora": state dict, "loss": of the last tenth of the steps}.

        Raises:
            RequestError: no references, or one is no picture.
            ConfigError: the loss became NaN.
        """
        import torch

        from pm.methods.learn import Denoiser, examples_of, fit, frugal, tail, train_step
        from pm.model.base import encode_text
        from pm.model.lora import add_lora, lora_parameters
        from pm.model.prompt import tokenize
        from pm.model.shared import shared_copy
        from pm.train.step import train_in_float32

        settings, base = self.settings, self.pipeline.base
        mine = examples_of(base, references)
        others = self._prior(class_word) if settings.prior_weight else None
        texts = [self._subject(class_word), _plain(class_word)]
        unet = shared_copy(self.pipeline.plain_unet())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            add_lora(unet, settings.rank, settings.targets)
        train_in_float32(frugal(unet, settings.train))
        named = lora_parameters(unet, base.family.lora_prefix)
        step = train_step(
            base, Denoiser(base, unet, encode_text(base, tokenize(base.tokenizers, texts))), settings.train
        )

        def combine(losses: Tensor) -> Tensor:
            own, prior = losses[: settings.train.batch_size], losses[settings.train.batch_size :]
            return own.mean() + settings.prior_weight * prior.mean() if len(prior) else own.mean()

        losses = fit(step, list(named.values()), self._batches(mine, others, seed), settings.train, combine)
        state = {name: value.detach().cpu().contiguous() for name, value in named.items()}
        return {"lora": state, "loss": tail(losses)}

    def requests(self, state: Any, trial: Trial, references: int) -> list[Request]:
        from pm.sample.request import BASE, request_of

        prompt, lora = trial.prompt(self._subject(trial.class_word)), self._fused(state)
        return [request_of(self._sampler, prompt, adapter=BASE, lora=lora, seed=seed) for seed in trial.seeds]

    def export(self, state: Any, folder: Path) -> Path:
        """Write what diffusers' `load_lora_weights` takes: a file with its usual name in `folder`."""
        from safetensors.torch import save_file

        from pm.files import replace_file
        from pm.model.formats import LORA

        with replace_file(folder / LORA, mode=0o644) as temporary:
            save_file(state["lora"], temporary, metadata={"format": "pt"})
        return folder / LORA

    def _subject(self, class_word: str) -> str:
        return self.settings.subject.format(token=self.settings.token, class_word=class_word)

    def _fused(self, state: Any) -> FusedLora:
        """Rows of one person must share it: those of one U-Net call have the same."""
        from pm.model.fused import FusedLora

        known = next((lora for of, lora in self._used if of is state), None)
        if known is None:
            base = self.pipeline.base
            known = FusedLora(base.unet, base.family.lora_prefix, state["lora"])
            self._used = [*self._used, (state, known)][-_KEPT:]
        return known

    def _prior(self, class_word: str) -> Examples:
        from pm.methods.learn import examples_from_latents
        from pm.methods.prior import class_latents

        if class_word not in self._class:
            folder = None if self.settings.prior_folder is None else Path(self.settings.prior_folder)
            count, prompt = self.settings.prior_images, _plain(class_word)
            latents = class_latents(self.pipeline, self._sampler, prompt, count, folder)
            base = self.pipeline.base
            self._class[class_word] = examples_from_latents(base, latents.to(base.unet.device), prompt=1)
        return self._class[class_word]

    def _batches(self, mine: Examples, others: Examples | None, seed: int) -> Iterator[Examples]:
        import torch

        generator = torch.Generator().manual_seed(seed)
        count, masked = self.settings.train.batch_size, self.settings.train.masked_loss
        for _ in itertools.count():
            own = mine.drawn(count, masked, generator)
            yield (
                own
                if others is None
                else own.concat([own, others.drawn(self.settings.prior_batch_size, 0.0, generator)])
            )


def _plain(class_word: str) -> str:
    return f"{'an' if class_word[:1].lower() in 'aeiou' else 'a'} {class_word}"
