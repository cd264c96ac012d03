"""From requests to the rows of the sampler: prompts and ID images encoded, each different one once."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from pm.errors import RequestError
from pm.model.base import BaseModel, null_text
from pm.model.conditioning import Conditioning, TextFeatures
from pm.model.images import masks_to_bool, noise_fill, to_clip, to_uint8
from pm.model.long_text import Encoded, Written, encode_written
from pm.model.prompt import Place, Prompt, plain_prompt
from pm.model.weighting import Weighting
from pm.sample.adapters import Adapter
from pm.sample.checks import parsed, second_prompt
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
        rows = _condition(
            base, adapter, [prompts[i] for i in encoded.values()], [requests[i] for i in encoded.values()]
        )
        made = dict(zip(encoded, rows, strict=True))
    for key, i in first.items():  # those of the caller have lengths of their own
        given, row = requests[i].text, made.get(key) or _given(base, adapter, requests[i]).trimmed()
        twin = given.plain.to(row.embeds.device, row.embeds.dtype) if given and given.plain else None
        made[key] = replace(row, text_embeds=twin.embeds, text_pooled=twin.pooled) if twin else row
    return [made[key] for key in keys]


def plain_text(
    base: BaseModel, text: str, second: str | None, clip_skip: int, weighting: Weighting = "explicit"
) -> TextFeatures:
    """A prompt without a person; `second`: for the second encoder, None: the same."""
    other = None if second is None else plain_prompt(second, weighting)
    (encoded,) = encode_written(base, [Written(plain_prompt(text, weighting), {}, 1, other, clip_skip)])
    return encoded.text


def encode_for_place(
    base: BaseModel, adapter: Adapter, request: Request, count: int
) -> tuple[TextFeatures, tuple[int, ...]]:
    """A request's prompt as the text encoders see it, and the tokens where the identity of `count` photos goes.

    Raises:
        RequestError: the prompt has no place for it.
    """
    prompt = parsed(request, adapter.terms, None)
    second = second_prompt(request, prompt, base, adapter.terms)
    repeats = adapter.terms.repeats(count)
    (encoded,) = encode_written(base, [Written(prompt, {}, repeats, second, request.clip_skip)])
    places = [place + n for place in encoded.places[:1] for n in range(repeats)]
    return encoded.text, tuple(places)


def with_time_ids(conditioning: Conditioning, values: Sequence[float]) -> Conditioning:
    """`values`: as the base's family makes them, for the one row."""
    return replace(conditioning, time_ids=torch.tensor([values], dtype=torch.float32))


def negative_texts(base: BaseModel, requests: Sequence[Request]) -> list[TextFeatures]:
    """What guidance moves away from, B = 1 for each request; without a negative prompt the base's null text."""
    made: dict[tuple[str | None, str | None, Weighting], TextFeatures] = {}
    found = []
    for request in requests:
        if request.negative_text is not None:
            found.append(request.negative_text)
            continue
        key = request.negative_prompt, request.negative_prompt_2, request.prompt_weighting
        if key not in made:
            made[key] = negative_text(base, *key)
        found.append(made[key])
    return found


def negative_text(
    base: BaseModel, text: str | None, second: str | None = None, weighting: Weighting = "explicit"
) -> TextFeatures:
    """What guidance moves away from; None: the base's null text. `second`: for the second encoder, None: the same."""
    return null_text(base, 1) if text is None else plain_text(base, text, second, 0, weighting)


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
    text = request.prompt_2, request.clip_skip, id(request.text), id(request.face_embeds), request.id_strength
    return prompt, tuple(id(photo) for photo in photos), masks, weights, words, request.scale, text


def _condition(
    base: BaseModel, adapter: Adapter | None, prompts: Sequence[Prompt], requests: Sequence[Request]
) -> list[Conditioning]:
    """One for each request, B = 1, without padding."""
    terms = None if adapter is None else adapter.terms
    written = [
        Written(prompt, r.words, 1, second_prompt(r, prompt, base, terms), r.clip_skip)
        for r, prompt in zip(requests, prompts, strict=True)
    ]
    plain = encode_written(base, written)
    if adapter is None:
        time_ids = torch.zeros(1, 0, device=base.unet.device)
        return [Conditioning.from_text(each.text, time_ids) for each in plain]
    text = plain
    if adapter.conditioner.repeat:
        counts = [adapter.terms.repeats(request.references) for request in requests]
        text = encode_written(base, [replace(w, repeats=n) for w, n in zip(written, counts, strict=True)])
    embeds = _embeds(adapter, requests, plain[0].text.embeds)
    asked = [_Asked(*each) for each in zip(text, plain, prompts, requests, embeds, strict=True)]
    found: dict[int, Conditioning] = {}
    for rows in _alike(asked):
        merged = _merged(adapter, [asked[i] for i in rows])
        found |= {i: merged.rows(slice(n, n + 1)).trimmed() for n, i in enumerate(rows)}
    return [found[i] for i in range(len(requests))]


def _given(base: BaseModel, adapter: Adapter | None, request: Request) -> Conditioning:
    """Conditioning of one request whose text features the caller made."""
    given: Any = request.text
    device, dtype = base.unet.device, base.unet.dtype
    text = given.text.to(device, dtype)
    if adapter is None:
        return Conditioning.from_text(text, torch.zeros(1, 0, device=device))
    plain = text if given.plain is None else given.plain.to(device, dtype)
    (embeds,) = _embeds(adapter, [request], text.embeds)
    own = Encoded(text, tuple(given.class_tokens[:1]))
    return _merged(adapter, [_Asked(own, Encoded(plain, ()), Prompt("", "", (0, 0)), request, embeds)])


@dataclass(frozen=True)
class _Asked:
    """A request, and what its parts were made into."""

    text: Encoded
    plain: Encoded  # the text-only twin
    prompt: Prompt
    request: Request
    embeds: Tensor  # [N, ...], of its photos


def _alike(asked: Sequence[_Asked]) -> list[list[int]]:
    """Requests that fit one call: texts of one length. One that names the person twice is alone."""
    groups: dict[tuple, list[int]] = {}
    for i, each in enumerate(asked):
        alone = i if len(each.text.places) > 1 else None
        lengths = (each.text.text.embeds.shape[1], each.plain.text.embeds.shape[1])
        groups.setdefault((*lengths, alone), []).append(i)
    return list(groups.values())


def _merged(adapter: Adapter, asked: Sequence[_Asked]) -> Conditioning:
    """Text and identities of requests with texts of one length: at each place of the person, the last one first, since
    what is put in moves what comes after."""
    device, requests = asked[0].embeds.device, [each.request for each in asked]
    text, twin = _stacked([each.text for each in asked]), _stacked([each.plain for each in asked])
    counts = torch.tensor([request.references for request in requests], device=device)
    for n in reversed(range(max(1, len(asked[0].text.places)))):
        places = [each.prompt.places[n] if each.prompt.places else Place((0, 0)) for each in asked]
        index = torch.tensor([each.text.places[n] if each.text.places else 0 for each in asked], device=device)
        strengths = [r.id_strength * place.strength for r, place in zip(requests, places, strict=True)]
        scales = [(1.0 if r.scale is None else r.scale) * s for r, s in zip(requests, strengths, strict=True)]
        conditioning = adapter.conditioner.condition(
            text,
            index,
            None,
            counts,
            torch.zeros(len(requests), 0, device=device),
            weights=_weights(requests, strengths, device),
            plain=twin,
            id_embeds=torch.cat([each.embeds for each in asked]),
            scale=torch.tensor(scales, device=device),
        )
        text = TextFeatures(conditioning.embeds, conditioning.pooled)
    return conditioning


def _weights(requests: Sequence[Request], strengths: Sequence[float], device: torch.device) -> Tensor | None:
    """Of all photos, [M]; None: 1."""
    pairs = zip(requests, strengths, strict=True)
    weights = [w * strength for r, strength in pairs for w in (r.weights or [1.0] * r.references)]
    return None if all(w == 1 for w in weights) else torch.tensor(weights, device=device)


def _stacked(encoded: Sequence[Encoded]) -> TextFeatures:
    parts = [each.text for each in encoded]
    return TextFeatures(torch.cat([p.embeds for p in parts]), torch.cat([p.pooled for p in parts]))


def _embeds(adapter: Adapter, requests: Sequence[Request], like: Tensor) -> list[Tensor]:
    """What is known of each request's photos, [N, ...], given or made now, each photo once."""
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
    return [part.to(like.device, adapter.conditioner.embed_dtype) for part in parts]


def _photos(request: Request) -> list[IdPhoto]:
    count = len(request.id_images)
    faces = [()] * count if request.face_embeds is None else request.face_embeds.tolist()
    return [IdPhoto(*each) for each in zip(request.id_images, request.masks or [None] * count, faces, strict=True)]


def _same(photo: IdPhoto) -> tuple[Any, ...]:
    """Equal for photos that look the same to every adapter."""
    return id(photo.image), id(photo.mask), tuple(photo.face)
