"""Photos and requests of configurations, checked before any weights are loaded."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from pm.choice import import_modules
from pm.errors import RequestError
from pm.model.adapter import check_adapter
from pm.model.adapter_file import AdapterMeta
from pm.model.base import BaseModel, load_base
from pm.model.class_words import with_class_words
from pm.sample.adapters import find_adapter
from pm.sample.checks import Terms, check_request, prompt_notes
from pm.sample.config import GenerateConfig
from pm.sample.drawn import drawn_note
from pm.sample.faces import face_embeds, reader_for
from pm.sample.identity import load_references, preparer
from pm.sample.lora_files import LoraFiles
from pm.sample.people import check_places, merge_step_for
from pm.sample.people_files import people_of
from pm.sample.picture_files import picture_fields, picture_notes
from pm.sample.references import Reference, find_references
from pm.sample.request import Request, request_of
from pm.sample.schedule import Schedule
from pm.sample.schedules.base import ScheduleChoice
from pm.sample.sizes import aspect_size, rounding_note
from pm.sample.usable import values_kept


@dataclass(frozen=True)
class Photos:
    """The ID photos of one person of a picture."""

    references: list[Reference]  # those that can be used
    weights: list[float] | None  # of these
    paths: list[Path]  # of all


class Prepared:
    """Photos and requests of many configurations on one base; what they have in common is prepared once."""

    def __init__(self, config: GenerateConfig) -> None:
        import_modules(config.modules)
        base = config.base
        self.base = load_base(base.path, (), vision_path=base.vision_path, family=base.family)
        self.notes: dict[str, None] = {}  # in their order, each once
        self._metas: dict[str | None, AdapterMeta | None] = {None: None}
        self._loras = LoraFiles(self.base)
        self._references: dict[tuple, list[Reference]] = {}
        self._schedules: dict[ScheduleChoice, Schedule] = {}

    def meta(self, config: GenerateConfig) -> AdapterMeta | None:
        """Of its adapter; None: the base alone."""
        if config.adapter not in self._metas:
            file = find_adapter(str(config.adapter), None, "")
            self._metas[config.adapter] = check_adapter(file, self.base, check_base=config.check_base)
        return self._metas[config.adapter]

    def schedule(self, config: GenerateConfig) -> Schedule:
        choice = config.sampler.schedule
        if choice not in self._schedules:
            self._schedules[choice] = Schedule(choice, self.base.scheduler_config)
        return self._schedules[choice]

    def people(self, config: GenerateConfig) -> list[Photos]:
        """Of each of its people, or of the one."""
        if not config.people:
            return [self._photos(config, config.id_images, config.weights)]
        return [self._photos(config, each.places, each.weights) for each in config.people]

    def _photos(self, config: GenerateConfig, places: Sequence[str], weights: Sequence[float] | None) -> Photos:
        paths, meta = find_references(places), self.meta(config)
        photos = (tuple(paths), config.photo, config.pick, config.references)
        key = (photos, config.adapter, config.face, config.mask, config.embedder, config.preprocess)
        if key not in self._references:
            found = self._references[key] = references_of(config, meta, paths)
            drawn = drawn_note(self.base, found)
            self._note(*(note for reference in found for note in reference.notes), drawn, _mask_note(meta, found))
        references = self._references[key]
        return Photos(references, values_kept("weights", weights, references, len(paths)), paths)

    def request(self, config: GenerateConfig, people: Sequence[Photos]) -> Request:
        """Checked."""
        one = Photos([], None, []) if config.people else people[0]
        request = request_for(config, config.prompt or "", one.references, one.weights, config.seed)
        if config.people:
            request = replace(request, people=people_of(config.people, people))
        request, note = with_size(request, config, self.base)
        self._note(note, *picture_notes(request, self.base.shapes))
        self._loras.check(config.strengths)
        meta = self.meta(config)
        terms = None if meta is None else Terms.of(meta)
        check_request(request, self.base, terms, self.schedule(config), class_words(config))
        check_places(request, self.base, merge_step_for(request, config.sampler.merge_step or 0))
        self._note(*prompt_notes(request, terms, class_words(config)))
        return request

    def _note(self, *notes: str | None) -> None:
        self.notes |= {note: None for note in notes if note}


def with_size(request: Request, config: GenerateConfig, base: BaseModel) -> tuple[Request, str | None]:
    """The request in the size that is asked for, and a note where that is not what will be drawn.

    Raises:
        RequestError: an aspect beside width or height, or no such aspect.
    """
    step = base.shapes.side_multiple
    if config.aspect is None:
        return request, rounding_note(config.width, config.height, step)
    if config.width is not None or config.height is not None:
        raise RequestError(f"aspect={config.aspect!r} is given beside width or height; give one of them")
    width, height = aspect_size(config.aspect, base.resolution, step)
    return replace(request, width=width, height=height), None


def class_words(config: GenerateConfig) -> frozenset[str] | None:
    """Words that mean a person; None: every word does."""
    return with_class_words(config.class_words)


def references_of(config: GenerateConfig, meta: AdapterMeta | None, paths: list[Path]) -> list[Reference]:
    otherwise = preparer(meta, config.preprocess, config.photo, config.pick, read_faces=False)
    return load_references(
        paths,
        config.face,
        config.mask,
        config.photo.crop,
        otherwise,
        sidecars=config.preprocess != "none",
        pick=config.pick,
        strict=config.references == "strict",
        faces=reader_for(meta, config.embedder, config.photo, config.pick),
    )


def _mask_note(meta: AdapterMeta | None, references: list[Reference]) -> str | None:
    """Say so when photos are not prepared as the adapter knows them; it works all the same, less well."""
    bare = names_of([reference for reference in references if reference.mask is None])
    if not (bare and meta and "mask" in meta.crop_mode):
        return None
    return f"{', '.join(bare)} have no mask, but the adapter was trained with them; leave out preprocess=none"


def names_of(references: Sequence[Reference]) -> list[str]:
    return [reference.path.name for reference in references if reference.path is not None]


def request_for(
    config: GenerateConfig, prompt: str, references: list[Reference], weights: list[float] | None, seed: int
) -> Request:
    """One picture with the settings of the configuration."""
    faces = face_embeds(references)
    return request_of(
        config.sampler,
        prompt,
        id_images=[reference.image for reference in references],
        masks=[reference.mask for reference in references],
        face_embeds=None if faces is None else torch.tensor(faces),
        weights=weights,
        scale=config.scale,
        guidance_rescale=config.guidance_rescale,
        clip_skip=config.clip_skip,
        id_strength=config.id_strength,
        id_start=config.id_start,
        id_end=config.id_end,
        prompt_weighting=config.prompt_weighting,
        trigger=config.trigger,
        seed=seed,
        width=config.width,
        height=config.height,
        **picture_fields(config),
        loras=config.strengths,
    )
