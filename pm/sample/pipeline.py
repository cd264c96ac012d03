"""The library's front door: load a base and an adapter, ask for images."""

from collections import deque
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pm.errors import CheckpointError, RequestError
from pm.model.adapter import AdapterMeta, apply_adapter, load_adapter
from pm.model.base import BaseModel, decode_latents, encode_text, load_base, null_text
from pm.model.conditioning import Conditioning, TextFeatures
from pm.model.images import masks_to_bool, noise_fill, to_clip, to_uint8
from pm.model.photomaker import PhotoMaker
from pm.model.prompt import CLASS_WORDS, Prompt, class_token_index, parse_prompt, token_count, tokenize
from pm.sample.request import Request
from pm.sample.sampler import Row, Sampler
from pm.sample.schedule import Schedule


class PhotoMakerPipeline:
    """Turn requests into images; with an adapter (ID images and a trigger word) or without (plain text)."""

    def __init__(
        self,
        base: BaseModel,
        photomaker: PhotoMaker | None = None,
        *,
        meta: AdapterMeta | None = None,
        schedule: str = "ddim",
        class_words: Collection[str] | None = CLASS_WORDS,
    ) -> None:
        """Wrap loaded models; a model in training works too.

        Args:
            base: loaded with text encoders, VAE and U-Net.
            photomaker: the model around `base.unet`; None samples the base alone.
            meta: the adapter's metadata, if it came from a file.
            schedule: "ddim" or "euler".
            class_words: words allowed before the trigger; None allows every word.
        """
        if base.text_encoders is None or base.vae is None or base.unet is None:
            raise CheckpointError(f"base {base.path} was not loaded whole; load it with parts text, vae and unet")
        self.base, self.photomaker, self.meta = base, photomaker, meta
        self.schedule = Schedule(schedule, base.scheduler_config)
        self.class_words = class_words

    @classmethod
    def from_pretrained(
        cls,
        base: str | Path,
        adapter: str | Path | None = None,
        vision_path: str | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        *,
        schedule: str = "ddim",
        class_words: Collection[str] | None = CLASS_WORDS,
        check_base: bool = True,
    ) -> "PhotoMakerPipeline":
        """Load a base and, if given, an adapter (ours or the published one).

        The adapter holds the whole id encoder, so the vision tower's own weights are not needed. `check_base=False`
        puts it on another base of the same shape, such as a fine-tuned one.

        Raises:
            CheckpointError: something is missing or damaged, or the adapter was trained on another base.
        """
        if adapter is None:
            return cls(load_base(base, device=device, dtype=dtype), schedule=schedule, class_words=class_words)
        state, meta = load_adapter(adapter)
        loaded = load_base(base, vision_path=vision_path, device=device, dtype=dtype)
        photomaker = PhotoMaker(loaded, meta.config(state), vision_config=meta.vision_config)
        apply_adapter(photomaker, state, meta, check_base=check_base)
        photomaker.requires_grad_(False).to(device, dtype).eval()
        if dtype is torch.float32:
            # A quarter less time a step. Not in half precision: rounding would eat small changes of the weights.
            loaded.unet.fuse_lora()
        return cls(loaded, photomaker, meta=meta, schedule=schedule, class_words=class_words)

    @property
    def trigger_word(self) -> str | None:
        """The adapter's trigger word, None without an adapter."""
        return self.photomaker.config.trigger_word if self.photomaker else None

    @property
    def max_id_images(self) -> int | None:
        """Most ID images a request may have, None without an adapter."""
        return self.photomaker.config.max_id_images if self.photomaker else None

    @property
    def device(self) -> torch.device:
        return self.base.unet.device

    def __call__(
        self, prompt: str, id_images: Sequence[Image.Image] = (), *, num_images: int = 1, seed: int = 0, **settings
    ) -> list[Image.Image]:
        """`num_images` of one prompt with seeds `seed`, `seed + 1`, ...; `settings` are fields of `Request`."""
        return self.generate([Request(prompt, id_images, seed=seed + i, **settings) for i in range(num_images)])

    def generate(self, requests: Sequence[Request], batch_size: int = 8, progress: bool = False) -> list[Image.Image]:
        """Images in the order of the requests.

        Up to `batch_size` rows are sampled together; the next request joins as soon as a row is done. An image depends
        on its own request only.

        Raises:
            RequestError: a request cannot be served; nothing is sampled then.
        """
        from tqdm.auto import tqdm

        for request in requests:
            self.check(request)
        images: list[Image.Image | None] = [None] * len(requests)
        waiting, owner, sampler = deque(range(len(requests))), {}, self.sampler()
        total = sum(request.steps for request in requests)
        with tqdm(total=total, desc="sampling", unit="step", disable=not progress) as bar:
            while waiting or len(sampler):
                joining = [waiting.popleft() for _ in range(min(batch_size - len(sampler), len(waiting)))]
                for i, row in zip(joining, self.prepare([requests[i] for i in joining]), strict=True):
                    owner[sampler.add(row)] = i
                bar.update(sampler.step())
                for key, latents in sampler.finished().items():
                    images[owner[key]] = self.decode(latents)
        return images

    def sampler(self) -> Sampler:
        """An empty set of rows for this model: `add` what `prepare` made, `step`, `decode` what `finished` gives."""
        return Sampler(self.base.unet, self.base.max_tokens)

    def check(self, request: Request) -> None:
        """Check a request fully, without running a model.

        Raises:
            RequestError: it cannot be served.
        """
        pixel_step = self.base.vae_scale_factor * 2 ** (len(self.base.configs["unet"]["block_out_channels"]) - 1)
        request.check(max_id_images=self.max_id_images, pixel_step=pixel_step)
        self.schedule.plan(request.steps, request.eta)
        prompt = self._parse(request)
        extra = 0 if self.photomaker is None else self._repeats(len(request.id_images)) - 1
        for text, more in ((prompt.text, extra), (request.negative_prompt, 0)):
            count = max(token_count(tokenizer, text) for tokenizer in self.base.tokenizers) + more
            if count > self.base.max_tokens:
                raise RequestError(
                    f"prompt {text!r} has {count} tokens, at most {self.base.max_tokens} fit; shorten it"
                )

    @torch.no_grad()
    def prepare(self, requests: Sequence[Request]) -> list[Row]:
        """Encode prompts and ID images, all in one batch, into rows for the sampler.

        Raises:
            RequestError: a request cannot be served.
        """
        if not requests:
            return []
        for request in requests:
            self.check(request)
        sizes = [(r.height or self.base.resolution, r.width or self.base.resolution) for r in requests]
        time_ids = torch.tensor([[h, w, 0, 0, h, w] for h, w in sizes], dtype=torch.float32, device=self.device)
        conditioning = self._conditioning(requests, time_ids)
        negatives = {text: self._negative(text) for text in {r.negative_prompt.strip() for r in requests}}
        factor, channels = self.base.vae_scale_factor, self.base.latent_channels
        return [
            Row(
                conditioning=conditioning.rows(slice(i, i + 1)).trimmed(),
                negative=negatives[r.negative_prompt.strip()],
                plan=self.schedule.plan(r.steps, r.eta),
                guidance=r.guidance,
                merge_step=r.first_merged if self.photomaker else 0,
                seed=r.seed,
                shape=(channels, h // factor, w // factor),
            )
            for i, (r, (h, w)) in enumerate(zip(requests, sizes, strict=True))
        ]

    def decode(self, latents: Tensor) -> Image.Image:
        """Latents [C, h, w] of one finished row to a picture. One at a time: it bounds memory at 1024 px."""
        pixels = decode_latents(self.base, latents[None])[0]
        return Image.fromarray((pixels * 255).round().byte().permute(1, 2, 0).cpu().numpy().astype(np.uint8))

    def _conditioning(self, requests: Sequence[Request], time_ids: Tensor) -> Conditioning:
        prompts = [self._parse(request) for request in requests]
        ids = tokenize(self.base.tokenizers, [prompt.text for prompt in prompts])
        plain = encode_text(self.base, ids)
        if self.photomaker is None:
            return Conditioning.from_text(plain, time_ids)
        index = torch.tensor([class_token_index(self.base.tokenizers[0], prompt) for prompt in prompts])
        counts = torch.tensor([len(request.id_images) for request in requests])
        text = plain
        if self.photomaker.repeat:
            text = encode_text(self.base, self.photomaker.repeat_ids(ids, index, counts))
        weights = [w for r in requests for w in (r.weights or [1.0] * len(r.id_images))]
        return self.photomaker.condition(
            text,
            index.to(self.device),
            self._id_pixels(requests),
            counts.to(self.device),
            time_ids,
            weights=None if all(w == 1 for w in weights) else torch.tensor(weights, device=self.device),
            plain=plain,
        )

    def _id_pixels(self, requests: Sequence[Request]) -> Tensor:
        """[M, 3, S, S] of all requests, noise outside the masks; each request's noise is from its own seed."""
        size, encoder = self.photomaker.id_encoder.image_size, self.photomaker.id_encoder
        parts = []
        for request in requests:
            pixels = to_uint8(request.id_images, size)
            if request.masks is not None and any(mask is not None for mask in request.masks):
                whole = Image.new("L", (size, size), 255)
                masks = masks_to_bool([mask or whole for mask in request.masks], size)
                pixels = noise_fill(pixels, masks, torch.Generator().manual_seed(request.seed))
            parts.append(to_clip(pixels, size))
        return torch.cat(parts).to(self.device, encoder.visual_projection.weight.dtype)

    def _parse(self, request: Request) -> Prompt:
        if self.photomaker is None:
            return Prompt(request.prompt, "", (0, 0))
        prompt = parse_prompt(request.prompt, self.trigger_word, self.class_words)
        class_token_index(self.base.tokenizers[0], prompt)  # raises when the word is too far back
        return prompt

    def _repeats(self, count: int) -> int:
        """Tokens the class word takes in the text encoders' input."""
        return count if self.photomaker.repeat and not self.photomaker.id_encoder.compose.one_token else 1

    def _negative(self, text: str) -> TextFeatures:
        return encode_text(self.base, tokenize(self.base.tokenizers, [text])) if text else null_text(self.base, 1)
