"""From requests to the rows of the sampler: prompts and ID images encoded, each different one once."""

import zlib
from collections.abc import Sequence
from dataclasses import replace

import torch
from PIL import Image
from torch import Tensor

from pm.model.base import BaseModel, encode_text, null_text
from pm.model.conditioning import Conditioning, TextFeatures
from pm.model.images import masks_to_bool, noise_fill, to_clip, to_uint8
from pm.model.prompt import Prompt, class_token_index, tokenize
from pm.model.words import encode_prompts
from pm.sample.adapters import Adapter
from pm.sample.request import Request

_PHOTOS = 32  # in one call of the vision tower


@torch.no_grad()
def condition(
    base: BaseModel, adapter: Adapter | None, prompts: Sequence[Prompt], requests: Sequence[Request]
) -> list[Conditioning]:
    """Conditioning of B requests for one adapter, or for the base alone, without time ids.

    Returns:
        `Conditioning` with B = 1 for each request, without padding. Requests that differ in other things than prompt,
        photos and weights share one.
    """
    keys = [_key(prompt, request) for prompt, request in zip(prompts, requests, strict=True)]
    first = {key: i for i, key in reversed(list(enumerate(keys)))}
    order = {key: i for i, key in enumerate(first)}
    chosen = list(first.values())
    merged = _condition(base, adapter, [prompts[i] for i in chosen], [requests[i] for i in chosen])
    rows = [merged.rows(slice(i, i + 1)).trimmed() for i in range(len(chosen))]
    return [rows[order[key]] for key in keys]


def with_time_ids(conditioning: Conditioning, values: Sequence[float]) -> Conditioning:
    """`values`: as the base's family makes them, for the one row."""
    return replace(conditioning, time_ids=torch.tensor([values], dtype=torch.float32))


def negative_text(base: BaseModel, text: str | None) -> TextFeatures:
    """What guidance moves away from; None: the base's null text."""
    return null_text(base, 1) if text is None else encode_text(base, tokenize(base.tokenizers, [text]))


@torch.no_grad()
def embed_photos(adapter: Adapter, photos: Sequence[tuple[Image.Image, Image.Image | None]]) -> Tensor:
    """Images and masks (white = person; noise replaces the rest) to what the adapter knows of them: [N, ...].

    Row i depends on photo i alone: its noise is drawn from its own pixels.
    """
    conditioner, parts = adapter.conditioner, []
    size, device = conditioner.image_size, next(conditioner.parameters()).device
    for start in range(0, len(photos), _PHOTOS):
        pixels = [_pixels(image, mask, size) for image, mask in photos[start : start + _PHOTOS]]
        parts.append(conditioner.embed(torch.cat(pixels).to(device, conditioner.embed_dtype)))
    return torch.cat(parts)


def _pixels(image: Image.Image, mask: Image.Image | None, size: int) -> Tensor:
    pixels = to_uint8([image], size)
    if mask is not None:
        seed = zlib.crc32(pixels.numpy().tobytes())
        pixels = noise_fill(pixels, masks_to_bool([mask], size), torch.Generator().manual_seed(seed))
    return to_clip(pixels, size)


def _key(prompt: Prompt, request: Request) -> tuple:
    photos = request.id_images if request.id_embeds is None else [request.id_embeds]
    weights = None if request.weights is None else tuple(request.weights)
    masks = tuple(id(mask) for mask in request.masks or ())
    words = tuple((name, id(word)) for name, word in request.words.items())
    return prompt, tuple(id(photo) for photo in photos), masks, weights, words, request.scale


def _condition(
    base: BaseModel, adapter: Adapter | None, prompts: Sequence[Prompt], requests: Sequence[Request]
) -> Conditioning:
    time_ids = torch.zeros(len(requests), 0, device=base.unet.device)
    texts = [prompt.text for prompt in prompts]
    if adapter is None:
        return Conditioning.from_text(encode_prompts(base, texts, [r.words for r in requests]), time_ids)
    ids = tokenize(base.tokenizers, texts)
    plain = encode_text(base, ids)
    index = torch.tensor([class_token_index(base.tokenizers[0], p) if p.class_word else 0 for p in prompts])
    counts = torch.tensor([request.references for request in requests])
    text = plain
    if adapter.conditioner.repeat:
        text = encode_text(base, adapter.conditioner.repeat_ids(ids, index, counts))
    weights = [w for r in requests for w in (r.weights or [1.0] * r.references)]
    scales = [1.0 if request.scale is None else request.scale for request in requests]
    device = base.unet.device
    return adapter.conditioner.condition(
        text,
        index.to(device),
        None,
        counts.to(device),
        time_ids,
        weights=None if all(w == 1 for w in weights) else torch.tensor(weights, device=device),
        plain=plain,
        id_embeds=_embeds(adapter, requests, text.embeds),
        scale=torch.tensor(scales, device=device),
    )


def _embeds(adapter: Adapter, requests: Sequence[Request], like: Tensor) -> Tensor:
    """What is known of the photos of all requests, [M, ...], given or made now, each photo once."""
    photos: dict[tuple[int, int], tuple[Image.Image, Image.Image | None]] = {}
    for request in requests:
        if request.id_embeds is None:
            photos |= {(id(i), id(m)): (i, m) for i, m in _photos(request)}
    place = {key: i for i, key in enumerate(photos)}
    made = embed_photos(adapter, list(photos.values())) if photos else like.new_zeros(0)
    parts = []
    for request in requests:
        if request.id_embeds is None:
            parts.append(made[[place[id(i), id(m)] for i, m in _photos(request)]])
        else:
            parts.append(request.id_embeds)
    return torch.cat([part.to(like.device, adapter.conditioner.embed_dtype) for part in parts])


def _photos(request: Request) -> list[tuple[Image.Image, Image.Image | None]]:
    masks = request.masks or [None] * len(request.id_images)
    return list(zip(request.id_images, masks, strict=True))
