"""From a configuration to portraits on disk."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from pm.choice import import_modules
from pm.files import check_place, writing
from pm.model.adapter import check_adapter
from pm.model.adapter_file import AdapterMeta
from pm.model.base import load_base
from pm.model.prompt import CLASS_WORDS
from pm.sample.adapters import find_adapter
from pm.sample.checks import Terms, check_request
from pm.sample.config import GenerateConfig
from pm.sample.devices import pick_device, pick_dtype
from pm.sample.drawn import drawn_note
from pm.sample.faces import face_embeds, reader_for
from pm.sample.grid import GridRow, labelled_grid, save_png, wrapped
from pm.sample.identity import load_references, preparer
from pm.sample.lora_files import LoraFiles, loras_said
from pm.sample.picture_files import about_files, load_extras, picture_fields, picture_notes
from pm.sample.pipeline import PhotoMakerPipeline
from pm.sample.progress import bar
from pm.sample.references import Reference, find_references
from pm.sample.request import Request, request_of
from pm.sample.said import interval_said, schedule_said
from pm.sample.schedule import Schedule
from pm.sample.usable import values_kept


def generate(config: GenerateConfig, progress: bool = True) -> Path:
    """Write `0000.png`, `0001.png`, ... and `grid.png` into `config.output`; returns that folder.

    Every file says in its PNG text how it was made. Nothing is written unless all images were made.

    Raises:
        PmError: the photos, the prompt, the adapter or the base cannot be used.
    """
    import_modules(config.modules)
    folder = Path(config.output)
    check_place(folder, "output=")
    paths = find_references(config.id_images)
    base = load_base(config.base.path, (), vision_path=config.base.vision_path, family=config.base.family)
    file = None if config.adapter is None else find_adapter(config.adapter, None, "")
    meta = None if file is None else check_adapter(file, base, check_base=config.check_base)
    LoraFiles(base).check(config.strengths)
    config = replace(config, sampler=config.sampler.on(base.drawn))
    pick_dtype(config.dtype, pick_device(config.device))
    with bar("preparing the photos", progress):
        references = references_of(config, meta, paths)
    weights = values_kept("weights", config.weights, references, len(paths))
    drawn = drawn_note(base, references)
    notes = [note for reference in references for note in reference.notes] + ([drawn] if drawn else [])
    for note in dict.fromkeys(notes):
        print(f"note: {note}")
    _note_masks(meta, references)
    requests = [
        request_for(config, config.prompt or "", references, weights, config.seed + i) for i in range(config.images)
    ]
    schedule, terms = Schedule(config.sampler.schedule, base.scheduler_config), None if meta is None else Terms.of(meta)
    for note in picture_notes(requests[0], base.shapes):
        print(f"note: {note}")
    for request in requests:
        check_request(request, base, terms, schedule, class_words(config))
    with bar("loading the base and the adapter", progress):
        pipeline = load_pipeline(config)
    images = pipeline.generate(requests, config.sampler.batch_size, progress)
    said = about(config, config.prompt, _names(references), weights)
    row = GridRow(images, [r.image for r in references], config.prompt or "", [f"seed {r.seed}" for r in requests])
    with writing(folder, "output="):
        for i, (image, request) in enumerate(zip(images, requests, strict=True)):
            save_png(folder / f"{i:04d}.png", image, said | {"seed": request.seed})
        save_png(folder / "grid.png", labelled_grid(wrapped(row)), said | {"seed": config.seed})
    return folder


def load_pipeline(config: GenerateConfig) -> PhotoMakerPipeline:
    """The base, the adapter and the LoRAs of the configuration."""
    device = pick_device(config.device)
    pipeline = PhotoMakerPipeline.from_pretrained(
        config.base.path,
        config.adapter,
        config.base.vision_path,
        device=device,
        dtype=pick_dtype(config.dtype, device),
        schedule=config.sampler.schedule,
        merge_fraction=config.sampler.merge_fraction,
        family=config.base.family,
        class_words=class_words(config),
        embedder=config.embedder,
        check_base=config.check_base,
        compile=config.compile,
        offload=config.offload,
        vae_tiling=config.vae_tiling,
    )
    load_extras(pipeline, config)
    pipeline.load_loras(config.strengths)
    return pipeline


def class_words(config: GenerateConfig) -> frozenset[str]:
    """Words allowed before the trigger."""
    return CLASS_WORDS | {word.lower() for word in config.class_words}


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


def _note_masks(meta: AdapterMeta | None, references: list[Reference]) -> None:
    """Say so when photos are not prepared as the adapter knows them; it works all the same, less well."""
    bare = _names([reference for reference in references if reference.mask is None])
    if bare and meta and "mask" in meta.crop_mode:
        print(f"note: {', '.join(bare)} have no mask, but the adapter was trained with them; leave out preprocess=none")


def _names(references: Sequence[Reference]) -> list[str]:
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
        seed=seed,
        width=config.width,
        height=config.height,
        **picture_fields(config),
        loras=config.strengths,
    )


def about(
    config: GenerateConfig,
    prompt: str | None,
    photos: Sequence[str],
    weights: list[float] | None,
    loras: Mapping[str, float] | None = None,
) -> dict[str, object]:
    """What a picture's file says of how it was made. `loras`: None: those of the configuration."""
    sampler = config.sampler
    return {
        "prompt": prompt,
        "negative_prompt": sampler.negative_prompt,
        "adapter": config.adapter or "none",
        "base": config.base.path,
        "id_images": ", ".join(photos),
        "weights": ", ".join(map(str, weights)) if weights else "1",
        **({} if config.scale is None else {"scale": config.scale}),
        **about_files(config),
        **loras_said(config.strengths if loras is None else loras),
        **{name: value for name in ("guidance_rescale", "clip_skip") if (value := getattr(config, name))},
        **schedule_said(sampler.schedule),
        "steps": sampler.steps,
        "guidance": sampler.guidance,
        **interval_said(sampler.guidance_start, sampler.guidance_end),
        **({"eta": sampler.eta} if sampler.eta else {}),
        "merge_step": sampler.merge_step,
    }
