"""Textual Inversion (Gal et al. 2023): a word of each person's own, whose embeddings are learned; nothing else changes.

With `init=cross` it starts where learned embeddings end up, at the text encoder's output for the class word, and is
held near it: Cross Initialization (Pang et al. 2024, sections 4.2 and 4.3).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, MinLen

from pm.errors import ConfigError, RequestError
from pm.methods.base import Method, MethodChoice
from pm.methods.pipeline import load_pipeline
from pm.methods.trial import Photo, Trial
from pm.methods.tuning import Tuning

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pm.methods.learn import Examples
    from pm.model.base import BaseModel
    from pm.model.config import BaseConfig
    from pm.sample.config import SamplerConfig
    from pm.sample.pipeline import PhotoMakerPipeline
    from pm.sample.request import Request

_LEARNED = "learned_embeds.safetensors"


@dataclass(frozen=True)
class TextualInversion(MethodChoice):
    token: str  # the word's name in prompts, in angle brackets
    subject: str  # the person in prompts, with {token} and {class_word}
    prompts: Annotated[tuple[str, ...], MinLen(1)]  # of training, with {person} where the subject stands
    vectors: Annotated[int, Ge(1)]  # tokens of the word
    # Where it starts: the class word's own embedding, or what the text encoder makes of it
    init: Literal["class_word", "cross"]
    regularisation: Annotated[float, Ge(0)]  # weight of the squared distance from the start
    train: Tuning

    title: ClassVar[str] = "Textual Inversion"
    tunes_per_person: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if "{token}" not in self.subject:
            raise ConfigError(f"subject={self.subject!r} lacks {{token}}; write for example 'a {{token}}'")
        odd = next((prompt for prompt in self.prompts if "{person}" not in prompt), None)
        if odd is not None:
            raise ConfigError(f"prompt {odd!r} lacks {{person}}; write for example 'a photo of {{person}}'")

    def label(self) -> str:
        return self.title + (", cross initialization" if self.init == "cross" else "")

    def load(self, base: BaseConfig, sampler: SamplerConfig, device: torch.device, dtype: torch.dtype) -> Method:
        return TextualInversionMethod(load_pipeline(base, sampler, device, dtype), sampler, self)


class TextualInversionMethod(Method):
    """A state holds the word's embeddings, [K, W_i] for each text encoder."""

    def __init__(self, pipeline: PhotoMakerPipeline, sampler: SamplerConfig, settings: TextualInversion) -> None:
        self.pipeline, self._sampler, self.settings = pipeline, sampler, settings
        self.about = {
            "fingerprint": pipeline.base.fingerprint,
            "steps": settings.train.steps,
            "vectors": settings.vectors,
            "init": settings.init,
        }

    def personalise(self, references: Sequence[Photo], class_word: str, seed: int) -> dict[str, Any]:
        """Learn the person: {"embeddings": a list of tensors, "loss": of the last tenth of the steps}.

        Raises:
            RequestError: no references, one is no picture, or the class word is no single token.
            ConfigError: the loss became NaN.
        """
        import torch

        from pm.methods.learn import ReadDenoiser, examples_of, fit, frugal, tail, train_step
        from pm.model.shared import shared_copy
        from pm.model.words import LearnedWord, tokenize_words

        settings, base = self.settings, self.pipeline.base
        mine = examples_of(base, references)
        start = [first.expand(settings.vectors, -1).float() for first in _start(base, class_word, settings.init)]
        word = LearnedWord(tuple(start))
        subject = self._subject(class_word)
        texts = [prompt.replace("{person}", subject) for prompt in settings.prompts]
        ids, tables = tokenize_words(base.tokenizers, texts, [{settings.token: word}] * len(texts))
        unet = frugal(shared_copy(self.pipeline.plain_unet()), settings.train)
        denoiser = ReadDenoiser(base, unet, ids, tables)

        def combine(losses: Tensor) -> Tensor:
            moved = [(now - then).square().sum() for now, then in zip(denoiser.tables, start, strict=True)]
            return losses.mean() + settings.regularisation * torch.stack(moved).sum()

        step = train_step(base, denoiser, settings.train)
        losses = fit(step, list(denoiser.tables), self._batches(mine, len(texts), seed), settings.train, combine)
        return {"embeddings": [table.detach().cpu().contiguous() for table in denoiser.tables], "loss": tail(losses)}

    def requests(self, state: Any, trial: Trial, references: int) -> list[Request]:
        from pm.model.words import LearnedWord
        from pm.sample.request import BASE, request_of

        prompt = trial.prompt(self._subject(trial.class_word))
        words = {self.settings.token: LearnedWord(tuple(state["embeddings"]))}
        return [request_of(self._sampler, prompt, adapter=BASE, words=words, seed=seed) for seed in trial.seeds]

    def export(self, state: Any, folder: Path) -> Path:
        """Write what diffusers' `load_textual_inversion` takes, into `folder`.

        With one text encoder the file says the word itself; with two, as is usual for SDXL, `clip_l` and `clip_g` are
        for one encoder each.
        """
        from safetensors.torch import save_file

        from pm.files import replace_file

        found = state["embeddings"]
        names = ("clip_l", "clip_g") if len(found) > 1 else (self.settings.token,)
        with replace_file(folder / _LEARNED, mode=0o644) as temporary:
            save_file(dict(zip(names, found, strict=True)), temporary, metadata={"format": "pt"})
        return folder / _LEARNED

    def _subject(self, class_word: str) -> str:
        return self.settings.subject.format(token=self.settings.token, class_word=class_word)

    def _batches(self, mine: Examples, prompts: int, seed: int) -> Iterator[Examples]:
        import torch

        generator = torch.Generator().manual_seed(seed)
        settings = self.settings.train
        for _ in itertools.count():
            drawn = mine.drawn(settings.batch_size, settings.masked_loss, generator)
            which = torch.randint(prompts, (settings.batch_size,), generator=generator)
            yield replace(drawn, prompt=which.to(drawn.mean.device))


def _start(base: BaseModel, class_word: str, init: str) -> list[Tensor]:
    """For each text encoder, [1, W_i] where the word starts.

    Raises:
        RequestError: the class word is no single token of the base.
    """
    import torch

    from pm.model.prompt import text_ids, tokenize

    for tokenizer in base.tokenizers:
        count = len(text_ids(tokenizer, class_word))
        if count != 1:
            raise RequestError(
                f"class word {class_word!r} is {count} tokens of base {base.path}; textual inversion starts from a "
                "word that is one token, such as man, woman or person"
            )
    ids = tokenize(base.tokenizers, [class_word])
    encoders: Any = base.text_encoders
    with torch.no_grad():
        if init == "cross":
            outputs = [encoder(i.to(encoder.device)) for encoder, i in zip(encoders, ids, strict=True)]
            return [output.last_hidden_state[:, 1] for output in outputs]  # the start token is at 0
        return [e.get_input_embeddings()(i.to(e.device))[:, 1] for e, i in zip(encoders, ids, strict=True)]
