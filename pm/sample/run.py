"""From a configuration to portraits on disk."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from pm.files import check_place, writing
from pm.protect.protector import Protector
from pm.sample.adapters import find_adapter
from pm.sample.config import GenerateConfig
from pm.sample.devices import pick_device, pick_dtype
from pm.sample.grid import GridRow, labelled_grid, wrapped
from pm.sample.like import Repeat
from pm.sample.output_file import SUFFIXES, save_picture
from pm.sample.picture_files import load_extras
from pm.sample.pipeline import PhotoMakerPipeline
from pm.sample.prepared import Prepared, class_words, names_of
from pm.sample.progress import bar
from pm.sample.record import about, batch_of, lockstep, of_all, recorded
from pm.sample.references import Reference
from pm.sample.request import BASE, Request


def generate(config: GenerateConfig, progress: bool = True, *, repeat: Repeat | None = None) -> Path:
    """Write `0000.png`, `0001.png`, ... and `grid.png` into `config.output`; returns that folder.

    The suffix is that of `config.format`. Every file says in its text how it was made. Nothing is written unless all
    images were made.

    Args:
        config: of all.
        progress: show what is being done.
        repeat: of one picture: it alone is written, after everything that was sampled with it was sampled again.

    Raises:
        PmError: the photos, the prompt, the adapter or the base cannot be used.
    """
    folder, suffix = Path(config.output), SUFFIXES[config.format]
    check_place(folder, "output=")
    protector = protector_of(config)
    if repeat is not None and repeat.batch:
        drawn = [draw(repeat.batch, progress, protector)[repeat.index]]
    else:
        drawn = draw(
            [replace(config, seed=config.seed + i, images=1) for i in range(config.images)], progress, protector
        )
    photos = [reference.image for reference in drawn[0].references]
    labels = [f"seed {each.config.seed}" for each in drawn]
    grid = labelled_grid(wrapped(GridRow([each.image for each in drawn], photos, config.prompt or "", labels)))
    with writing(folder, "output="):
        save_drawn(drawn, folder, config, protector)
        save_picture(
            folder / f"grid{suffix}",
            grid,
            of_all(drawn[0].about, config),
            config.format,
            config.quality,
            config.png_level,
            protector,
        )
    return folder


@dataclass(frozen=True)
class Drawn:
    """One picture that was made."""

    config: GenerateConfig  # of it alone
    image: Image.Image
    references: list[Reference]
    about: dict[str, object]  # for its file


def save_drawn(drawn: Sequence[Drawn], folder: Path, config: GenerateConfig, protector: Protector | None) -> None:
    """Write pictures as 0000.png, 0001.png, …, in the format of `config`."""
    how = config.format, config.quality, config.png_level, protector
    for i, each in enumerate(drawn):
        save_picture(folder / f"{i:04d}{SUFFIXES[config.format]}", each.image, each.about, *how)


def protector_of(config: GenerateConfig) -> Protector | None:
    """What marks, signs and looks at the pictures.

    Raises:
        ConfigError: its key or a check cannot be used.
    """
    return None if config.protect is None else Protector(config.protect)


def draw(cells: Sequence[GenerateConfig], progress: bool = True, protector: Protector | None = None) -> list[Drawn]:
    """One picture for each configuration, of the same base, device, precision and `batch_size`.

    Everything is checked before any weights are loaded.

    Raises:
        PmError: a picture cannot be made.
    """
    ready = Prepared(cells[0])
    cells = [replace(cell, sampler=cell.sampler.on(ready.base.drawn)) for cell in cells]
    first = cells[0]
    pick_dtype(first.dtype, pick_device(first.device))
    with bar("preparing the photos", progress):
        people = [ready.people(cell) for cell in cells]
    requests = [ready.request(cell, some) for cell, some in zip(cells, people, strict=True)]
    if protector is not None:
        for photo in {id(each): each for some in people for person in some for each in person.references}.values():
            _note(protector.reference(photo.image).note)
    for note in ready.notes:
        print(f"note: {note}")
    with bar("loading the base and the adapter", progress):
        pipeline = load_pipeline(first)
        requests = _with_adapters(pipeline, cells, requests)
    images: list[Image.Image] = []
    for run in lockstep(cells):
        pipeline.schedule = ready.schedule(cells[run.start])
        images += pipeline.generate([requests[i] for i in run], first.sampler.batch_size, progress)
    drawn = []
    for i, (cell, some, image) in enumerate(zip(cells, people, images, strict=True)):
        shown = [reference for person in some for reference in person.references]
        said = about(cell, cell.prompt, names_of(shown), some[0].weights) | {"seed": cell.seed}
        said |= recorded(cell, [person.paths for person in some], ready.base.fingerprint) | batch_of(cells, i)
        if cell.people:  # those who are found need steps before it
            said["merge_step"] = pipeline.merge_step(requests[i])
        if protector is not None:
            checked = protector.result(image)
            image = checked.image
            _note(checked.note)
        drawn.append(Drawn(cell, image, shown, said))
    return drawn


def _note(note: str | None) -> None:
    if note is not None:
        print(f"note: {note}")


def _with_adapters(
    pipeline: PhotoMakerPipeline, cells: Sequence[GenerateConfig], requests: list[Request]
) -> list[Request]:
    """Load the adapters beside the first, and name each where there are several."""
    for i, cell in enumerate(cells):
        if (cell.controls, cell.image_prompt) != (cells[i - 1].controls, cells[i - 1].image_prompt):
            load_extras(pipeline, cell)
        pipeline.load_loras(cell.strengths)
    files = list(dict.fromkeys(cell.adapter for cell in cells))
    names = {file: BASE if file is None else f"{i}: {file}" for i, file in enumerate(files)}
    if len(files) == 1:
        return requests
    for file in files:
        if file is not None:
            found = find_adapter(file, None, "")
            pipeline.load_photomaker_adapter(found, adapter_name=names[file], check_base=cells[0].check_base)
    return [replace(request, adapter=names[cell.adapter]) for cell, request in zip(cells, requests, strict=True)]


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
        quantize=config.quantize,
    )
    load_extras(pipeline, config)
    pipeline.load_loras(config.strengths)
    return pipeline
