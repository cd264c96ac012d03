"""`caption=blip2`: captions by BLIP-2 (Li et al. 2023), as in the paper (section 3.3)."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Gt

from pm.data.captioning.choice import CaptionChoice, Captioner
from pm.data.captioning.words import singular, words_in
from pm.data.records import Photo
from pm.errors import ConfigError
from pm.photo.pixels import decode_png

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Blip2(CaptionChoice):
    """Generated anew until a class word appears."""

    path: str  # Hub id or folder
    prompt: str  # how captions begin, "" for nothing
    attempts: Annotated[int, Ge(1)]  # captions without a class word are generated again, up to this many times in all
    max_tokens: Annotated[int, Ge(1)]  # length of a caption
    temperature: Annotated[float, Gt(0)]  # of the second attempt and later ones; the first takes the likeliest words

    holds_model: ClassVar[bool] = True
    uses_gpu: ClassVar[bool] = True

    def build(self, root: str, *, device: str, dtype: str, batch_size: int | None) -> Captioner:
        """A `Blip2Captioner`."""
        return Blip2Captioner(self, device=device, dtype=dtype, batch_size=batch_size)


class Blip2Captioner:
    """Captions of the crops, generated again until a class word appears. The model is loaded at the first photo.

    The first attempt takes the likeliest words; the later ones draw them, from a seed of the photo and the attempt, so
    that a photo's caption does not depend on the others in its batch.

    Args:
        config: the choice.
        device: where it runs.
        dtype: of its weights and computation.
        batch_size: crops in one call; None: measured.

    Raises:
        CheckpointError: the model is missing.
        ConfigError: it is not a BLIP-2.
    """

    def __init__(
        self,
        config: Blip2,
        *,
        device: str,
        dtype: str = "float32",
        batch_size: int | None = None,
    ):
        from pm.model.batching import Batcher
        from pm.model.files import read_json, resolve_folder

        self.config, self.dtype, self.device = config, dtype, device
        kind = read_json(resolve_folder(config.path) / "config.json").get("model_type")
        if kind != "blip-2":
            raise ConfigError(f"caption.path={config.path} is a {kind} model; give a BLIP-2 one")
        self._batches = Batcher(batch_size, self.device)

    def __call__(self, photo: Photo) -> tuple[str, str]:
        return self.many([photo])[0] or "", ""

    def many(self, photos: Sequence[Photo]) -> list[str | None]:
        """A caption with a class word for each photo's crop; None where no attempt had one."""
        found: list[str | None] = [None] * len(photos)
        for attempt in range(self.config.attempts):
            missing = [i for i, caption in enumerate(found) if caption is None]
            texts = self._batches(self._generate, [(photos[i], attempt) for i in missing])
            for i, text in zip(missing, texts, strict=True):
                if words_in(singular(text)):
                    found[i] = text
        return found

    def _generate(self, items: Sequence[tuple[Photo, int]]) -> list[str]:
        import torch

        from pm.model.pretrained import load_pretrained

        names = ("Blip2ForConditionalGeneration", "AutoProcessor")
        model, processor = load_pretrained("caption.path", self.config.path, *names, self.device, self.dtype)
        if processor.num_query_tokens is None:  # older repositories leave it to the model's config
            processor.num_query_tokens = model.config.num_query_tokens
        images = [decode_png(photo.crop, "RGB") for photo, _ in items]
        inputs = processor(images=images, text=[self.config.prompt] * len(items), return_tensors="pt").to(self.device)
        drawn = [_Draw([_seed(*item) for item in items], self.config.temperature)] if items[0][1] else []
        with torch.no_grad():
            ids = model.generate(
                pixel_values=inputs["pixel_values"].to(model.dtype),
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=self.config.max_tokens,
                do_sample=False,
                num_beams=1,
                logits_processor=drawn,
            )
        given = inputs["input_ids"].shape[1]
        if ids.shape[1] >= given and torch.equal(ids[:, :given], inputs["input_ids"]):  # decoders repeat their input
            ids = ids[:, given:]
        texts = processor.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [" ".join(f"{self.config.prompt} {text}".split()) for text in texts]


class _Draw:
    """A logits processor that makes the likeliest token a drawn one: argmax(logits / T + Gumbel noise) is a sample of
    softmax(logits / T). Each row has a generator of its own, which `generate`'s sampling does not offer.
    """

    def __init__(self, seeds: Sequence[int], temperature: float):
        import torch

        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.temperature = temperature

    def __call__(self, input_ids: "Tensor", scores: "Tensor") -> "Tensor":
        import torch

        uniform = torch.stack([torch.rand(scores.shape[1], generator=g) for g in self.generators])
        noise = -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))
        return scores.float() / self.temperature + noise.to(scores.device)


def _seed(photo: Photo, attempt: int) -> int:
    digest = hashlib.sha256(f"{photo.sha256}\0{photo.photo}\0{attempt}".encode()).digest()
    return int(np.frombuffer(digest[:8], np.uint64)[0] >> 1)
