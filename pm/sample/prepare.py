"""From requests to the rows of the sampler: prompts and ID images encoded, each different one once."""

import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from pm.errors import RequestError
from pm.model.base import BaseModel, null_text
from pm.model.conditioning import Conditioning, TextFeatures
from pm.model.images import masks_to_bool, noise_fill, to_clip, to_uint8
from pm.model.long_text import Encoded, Written, encode_written
from pm.model.prompt import Prompt, plain_prompt
from pm.model.weighting import Weighting
from pm.sample.adapters import Adapter
from pm.sample.checks import parsed, second_prompt
from pm.sample.given import stands_for_prompt
from pm.sample.merging import Asked, alike, merged
from pm.sample.people import Person, everyone, localised
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
    people = tuple(_key_of(person) for person in everyone(request))
    words = tuple((name, id(word)) for name, word in request.words.items())
    text = request.prompt_2, request.clip_skip, id(request.text), request.id_strength
    return prompt, people, localised(request), words, request.scale, text


def _key_of(person: Person) -> tuple:
    photos = person.id_images if person.id_embeds is None else [person.id_embeds]
    weights = None if person.weights is None else tuple(person.weights)
    masks = tuple(id(mask) for mask in person.masks or ())
    return tuple(id(photo) for photo in photos), masks, weights, id(person.face_embeds)


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
        often = [adapter.terms.repeated(request, prompt) for request, prompt in zip(requests, prompts, strict=True)]
        text = encode_written(base, [replace(w, repeats=n) for w, n in zip(written, often, strict=True)])
    embeds = _embeds(adapter, requests, plain[0].text.embeds)
    asked = [Asked(*each) for each in zip(text, plain, prompts, requests, embeds, strict=True)]
    found: dict[int, Conditioning] = {}
    for rows in alike(asked):
        made = merged(adapter, [asked[i] for i in rows])
        found |= {i: made.rows(slice(n, n + 1)).trimmed() for n, i in enumerate(rows)}
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
    return merged(adapter, [Asked(own, Encoded(plain, ()), Prompt("", "", (0, 0)), request, embeds)])


def _embeds(adapter: Adapter, requests: Sequence[Request], like: Tensor) -> list[list[Tensor]]:
    """What is known of the photos of each request's people, [N, ...], given or made now, each photo once."""
    photos: dict[tuple[Any, ...], IdPhoto] = {}
    people = [everyone(request) for request in requests]
    for person in (each for some in people for each in some):
        if person.id_embeds is None:
            photos |= {_same(photo): photo for photo in _photos(person)}
    place = {key: i for i, key in enumerate(photos)}
    made = embed_photos(adapter, list(photos.values())) if photos else like.new_zeros(0)

    def known(person: Person) -> Tensor:
        own = made[[place[_same(p)] for p in _photos(person)]] if person.id_embeds is None else person.id_embeds
        return own.to(like.device, adapter.conditioner.embed_dtype)

    return [[known(person) for person in some] for some in people]


def _photos(person: Person) -> list[IdPhoto]:
    count = len(person.id_images)
    faces = [()] * count if person.face_embeds is None else person.face_embeds.tolist()
    return [IdPhoto(*each) for each in zip(person.id_images, person.masks or [None] * count, faces, strict=True)]


def _same(photo: IdPhoto) -> tuple[Any, ...]:
    """Equal for photos that look the same to every adapter."""
    return id(photo.image), id(photo.mask), tuple(photo.face)
