"""From requests to the rows of the sampler: prompts and ID images encoded, each different one once."""

import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from pm.errors import RequestError
from pm.model.base import BaseModel, encode_text, null_text
from pm.model.conditioning import Conditioning, TextFeatures
from pm.model.images import masks_to_bool, noise_fill, to_clip, to_uint8
from pm.model.prompt import Prompt, class_token_index, tokenize
from pm.model.words import encode_prompts
from pm.sample.adapters import Adapter
from pm.sample.checks import parsed, second_text
from pm.sample.given import stands_for_prompt
from pm.sample.references import Reference
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
    made: dict[tuple, Conditioning] = {}
    encoded = {key: i for key, i in first.items() if not stands_for_prompt(requests[i])}
    if encoded:
        merged = _condition(
            base, adapter, [prompts[i] for i in encoded.values()], [requests[i] for i in encoded.values()]
        )
        made = {key: merged.rows(slice(j, j + 1)).trimmed() for j, key in enumerate(encoded)}
    for key, i in first.items():  # those of the caller have lengths of their own
        given, row = requests[i].text, made.get(key) or _given(base, adapter, requests[i]).trimmed()
        twin = given.plain.to(row.embeds.device, row.embeds.dtype) if given and given.plain else None
        made[key] = replace(row, text_embeds=twin.embeds, text_pooled=twin.pooled) if twin else row
    return [made[key] for key in keys]


def plain_text(base: BaseModel, text: str, second: str | None, clip_skip: int) -> TextFeatures:
    """A prompt without a person; `second`: for the second encoder, None: the same."""
    return encode_text(base, tokenize_pairs(base, [text], [second]), [clip_skip])


def encode_for_place(
    base: BaseModel, adapter: Adapter, request: Request, count: int
) -> tuple[TextFeatures, tuple[int, ...]]:
    """A request's prompt as the text encoders see it, and the tokens where the identity of `count` photos goes.

    Raises:
        RequestError: the prompt has no place for it.
    """
    prompt = parsed(request, base, adapter.terms, None)
    ids = tokenize_pairs(base, [prompt.text], [second_text(request, prompt, base, adapter.terms)])
    place = class_token_index(base.tokenizers[0], prompt) if prompt.class_word else 0
    if adapter.conditioner.repeat:
        ids = adapter.conditioner.repeat_ids(ids, torch.tensor([place]), torch.tensor([count]))
    places = range(place, place + adapter.terms.repeats(count)) if prompt.class_word else range(0)
    return encode_text(base, ids, [request.clip_skip]), tuple(places)


def with_time_ids(conditioning: Conditioning, values: Sequence[float]) -> Conditioning:
    """`values`: as the base's family makes them, for the one row."""
    return replace(conditioning, time_ids=torch.tensor([values], dtype=torch.float32))


def negative_texts(base: BaseModel, requests: Sequence[Request]) -> list[TextFeatures]:
    """What guidance moves away from, B = 1 for each request; without a negative prompt the base's null text."""
    made: dict[tuple[str | None, str | None], TextFeatures] = {}
    found = []
    for request in requests:
        if request.negative_text is not None:
            found.append(request.negative_text)
            continue
        key = request.negative_prompt, request.negative_prompt_2
        if key not in made:
            made[key] = negative_text(base, *key)
        found.append(made[key])
    return found


def negative_text(base: BaseModel, text: str | None, second: str | None = None) -> TextFeatures:
    """What guidance moves away from; None: the base's null text. `second`: for the second encoder, None: the same."""
    return null_text(base, 1) if text is None else encode_text(base, tokenize_pairs(base, [text], [second]))


def tokenize_pairs(base: BaseModel, texts: Sequence[str], seconds: Sequence[str | None]) -> tuple[Tensor, ...]:
    """Token ids [B, L] of every tokenizer; the second one is given `seconds` where they are not None."""
    ids = tokenize(base.tokenizers, texts)
    if all(second is None for second in seconds):
        return ids
    others = [text if second is None else second for text, second in zip(texts, seconds, strict=True)]
    return ids[0], *tokenize(base.tokenizers[1:], others)


class IdPhoto(NamedTuple):
    """What an adapter is shown of one photo."""

    image: Image.Image
    mask: Image.Image | None  # white = person; noise replaces the rest
    face: Sequence[float]  # embedding of the face, for adapters that take it; (): read from the image


@torch.no_grad()
def embed_photos(adapter: Adapter, photos: Sequence[IdPhoto]) -> Tensor:
    """Photos to what the adapter knows of them: [N, ...].

    Row i depends on photo i alone: its noise is drawn from its own pixels.

    Raises:
        RequestError: the adapter takes the embedding of a face, and there is none on a photo.
    """
    conditioner, parts = adapter.conditioner, []
    size, device = conditioner.image_size, next(conditioner.parameters()).device
    for start in range(0, len(photos), _PHOTOS):
        some = photos[start : start + _PHOTOS]
        pixels = torch.cat([_pixels(photo.image, photo.mask, size) for photo in some])
        faces = None
        if conditioner.face_width is not None:
            read = [_face(adapter, photo, f"ID photo {start + i + 1}") for i, photo in enumerate(some)]
            faces = torch.tensor(read, device=device)
        parts.append(conditioner.embed(pixels.to(device, conditioner.embed_dtype), faces))
    return torch.cat(parts)


def _face(adapter: Adapter, photo: IdPhoto, name: str) -> Sequence[float]:
    if len(photo.face):
        return photo.face
    if adapter.faces is None:
        raise RequestError("a model in training takes face embeddings beside the photos; give face_embeds")
    found = adapter.faces(Reference(photo.image), photo.image, name).face
    return () if found is None else found.embedding


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
    text = request.prompt_2, request.clip_skip, id(request.text), id(request.face_embeds)
    return prompt, tuple(id(photo) for photo in photos), masks, weights, words, request.scale, text


def _condition(
    base: BaseModel, adapter: Adapter | None, prompts: Sequence[Prompt], requests: Sequence[Request]
) -> Conditioning:
    time_ids = torch.zeros(len(requests), 0, device=base.unet.device)
    texts, skips = [prompt.text for prompt in prompts], [request.clip_skip for request in requests]
    if adapter is None and any(request.words for request in requests):
        return Conditioning.from_text(encode_prompts(base, texts, [r.words for r in requests], skips), time_ids)
    terms = None if adapter is None else adapter.terms
    seconds = [second_text(r, prompt, base, terms) for r, prompt in zip(requests, prompts, strict=True)]
    ids = tokenize_pairs(base, texts, seconds)
    plain = encode_text(base, ids, skips)
    if adapter is None:
        return Conditioning.from_text(plain, time_ids)
    index = torch.tensor([class_token_index(base.tokenizers[0], p) if p.class_word else 0 for p in prompts])
    counts = torch.tensor([request.references for request in requests])
    text = plain
    if adapter.conditioner.repeat:
        text = encode_text(base, adapter.conditioner.repeat_ids(ids, index, counts), skips)
    return _merged(adapter, requests, text, plain, index, counts)


def _given(base: BaseModel, adapter: Adapter | None, request: Request) -> Conditioning:
    """Conditioning of one request whose text features the caller made."""
    given: Any = request.text
    device, dtype = base.unet.device, base.unet.dtype
    text = given.text.to(device, dtype)
    if adapter is None:
        return Conditioning.from_text(text, torch.zeros(1, 0, device=device))
    plain = text if given.plain is None else given.plain.to(device, dtype)
    index = torch.tensor([given.class_tokens[0] if given.class_tokens else 0])
    return _merged(adapter, [request], text, plain, index, torch.tensor([request.references]))


def _merged(
    adapter: Adapter,
    requests: Sequence[Request],
    text: TextFeatures,
    plain: TextFeatures,
    index: Tensor,
    counts: Tensor,
) -> Conditioning:
    """Text of B requests with their identities; `index` [B] and `counts` [B] as `Conditioner.condition` takes them."""
    weights = [w for r in requests for w in (r.weights or [1.0] * r.references)]
    scales = [1.0 if request.scale is None else request.scale for request in requests]
    device = text.embeds.device
    return adapter.conditioner.condition(
        text,
        index.to(device),
        None,
        counts.to(device),
        torch.zeros(len(requests), 0, device=device),
        weights=None if all(w == 1 for w in weights) else torch.tensor(weights, device=device),
        plain=plain,
        id_embeds=_embeds(adapter, requests, text.embeds),
        scale=torch.tensor(scales, device=device),
    )


def _embeds(adapter: Adapter, requests: Sequence[Request], like: Tensor) -> Tensor:
    """What is known of the photos of all requests, [M, ...], given or made now, each photo once."""
    photos: dict[tuple[Any, ...], IdPhoto] = {}
    for request in requests:
        if request.id_embeds is None:
            photos |= {_same(photo): photo for photo in _photos(request)}
    place = {key: i for i, key in enumerate(photos)}
    made = embed_photos(adapter, list(photos.values())) if photos else like.new_zeros(0)
    parts = []
    for request in requests:
        if request.id_embeds is None:
            parts.append(made[[place[_same(photo)] for photo in _photos(request)]])
        else:
            parts.append(request.id_embeds)
    return torch.cat([part.to(like.device, adapter.conditioner.embed_dtype) for part in parts])


def _photos(request: Request) -> list[IdPhoto]:
    count = len(request.id_images)
    faces = [()] * count if request.face_embeds is None else request.face_embeds.tolist()
    return [IdPhoto(*each) for each in zip(request.id_images, request.masks or [None] * count, faces, strict=True)]


def _same(photo: IdPhoto) -> tuple[Any, ...]:
    """Equal for photos that look the same to every adapter."""
    return id(photo.image), id(photo.mask), tuple(photo.face)
