"""From a manifest to portraits on disk, on this process or workers of Ray; the same command goes on after a kill."""

import functools
import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pm.choice import import_modules
from pm.errors import PmError, RequestError
from pm.files import check_place, locked, write_bytes, writing
from pm.model.adapter import check_adapter
from pm.model.base import load_base
from pm.sample.adapters import find_adapter
from pm.sample.checks import Terms, check_request, prompt_notes
from pm.sample.config import GenerateConfig
from pm.sample.devices import pick_device, pick_dtype
from pm.sample.drawn import drawn_note
from pm.sample.lora_files import LoraFiles
from pm.sample.output_file import SUFFIXES, picture_bytes, read_about
from pm.sample.pipeline import PhotoMakerPipeline
from pm.sample.prepared import class_words, references_of, request_for, with_size
from pm.sample.record import about, recorded
from pm.sample.references import find_references
from pm.sample.request import Request
from pm.sample.rows import ManifestRow, read_manifest
from pm.sample.run import load_pipeline, protector_of
from pm.sample.schedule import Schedule
from pm.tasks import Task, batches
from pm.workers import run_tasks

Item = tuple[ManifestRow, int]  # and the seed
_SHOWN = 20  # rows in a message


def generate_all(config: GenerateConfig) -> tuple[int, int]:
    """Make every picture of `config.manifest` that is not in `config.output` yet.

    Returns:
        Pictures that were made, and pictures that the manifest asks for.

    Raises:
        RequestError: rows cannot be served, all of which are named, before anything is made; with `skip_bad_rows`
            only where none can.
        PmError: the adapter or the base cannot be used.
    """
    import_modules(config.modules)
    check_place(config.output, "output=")
    work = _Work(config)
    folder = Path(config.output)
    with writing(folder, "output="):
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, f"output={folder}"):
            return work.make()


class Portraitist:
    """A worker: makes batches."""

    def __init__(self, config: GenerateConfig) -> None:
        import_modules(config.modules)
        self._config = config
        self._pipeline: PhotoMakerPipeline | None = None
        self._protector = protector_of(config)

    def make(self, requests: Sequence[Request], texts: Sequence[dict[str, object]]) -> list[bytes]:
        """Files of pictures, each with its text entries."""
        if self._pipeline is None:
            self._pipeline = load_pipeline(self._config)
        for request in requests:
            self._pipeline.load_loras(request.loras)
        images = self._pipeline.generate(requests, batch_size=len(requests))
        how = self._config.format, self._config.quality, self._config.png_level
        if self._protector is not None:
            images = [self._protector.result(image).image for image in images]
        return [picture_bytes(i, text, *how, protector=self._protector) for i, text in zip(images, texts, strict=True)]


class _Work:
    def __init__(self, config: GenerateConfig) -> None:
        self.config, base = config, config.base
        self.base = load_base(base.path, (), vision_path=base.vision_path, family=base.family)
        self.config = config = replace(config, sampler=config.sampler.on(self.base.drawn))
        file = None if config.adapter is None else find_adapter(config.adapter, None, "")
        self.meta = None if file is None else check_adapter(file, self.base, check_base=config.check_base)
        self.digest = "" if file is None else _digest(file)
        pick_dtype(config.dtype, pick_device(config.device))
        self._texts: dict[tuple[int, int], dict[str, object]] = {}
        self.rows = self._checked()

    def _checked(self) -> list[ManifestRow]:
        rows, wrong = read_manifest(str(self.config.manifest))
        files = LoraFiles(self.base)
        files.check(self.config.strengths)
        schedule = Schedule(self.config.sampler.schedule, self.base.scheduler_config)
        terms, good, notes = None if self.meta is None else Terms.of(self.meta), [], dict[str, int]()
        for row in rows:
            try:
                request, said = self._request(row)
                check_request(request, self.base, terms, schedule, class_words(self.config))
                for seed in row.seeds:
                    replace(request, seed=seed).check(
                        max_id_images=None if self.meta is None else self.meta.max_id_images,
                        pixel_step=self.base.shapes.side_multiple,
                        resolution=self.base.resolution,
                    )
                files.check(row.loras)
                good.append(row)
                for note in (*said, *prompt_notes(request, terms, class_words(self.config))):
                    notes.setdefault(note, row.number)
            except PmError as error:
                wrong[row.number] = str(error)
        for note, number in notes.items():
            print(f"note: row {number}: {note}")
        named = [f"row {number}: {why}" for number, why in sorted(wrong.items())]
        if named and (not good or not self.config.skip_bad_rows):
            more = f"; and {len(named) - _SHOWN} rows more" if len(named) > _SHOWN else ""
            raise RequestError(
                f"manifest {self.config.manifest}: {'; '.join(named[:_SHOWN])}{more}; nothing was made: correct them, "
                "or leave them out with skip_bad_rows=true"
            )
        for line in named:
            print(f"note: {line}; left out")
        return good

    def _request(self, row: ManifestRow) -> tuple[Request, list[str]]:
        """For the first seed; and what the user should know."""
        config = self.config
        if config.adapter is not None and not row.photos:
            raise RequestError("it has no photos")
        if config.adapter is None and row.photos:
            raise RequestError("adapter=null samples the base alone; leave its photos out")
        found = references_of(config, self.meta, find_references(row.photos)) if row.photos else []
        drawn = drawn_note(self.base, found)
        notes = [note for reference in found for note in reference.notes] + ([drawn] if drawn else [])
        request, note = with_size(request_for(config, row.prompt, found, None, row.seeds[0]), config, self.base)
        return replace(request, loras=self._loras(row)), notes + ([note] if note else [])

    def _loras(self, row: ManifestRow) -> dict[str, float]:
        return self.config.strengths | dict(row.loras)

    def make(self) -> tuple[int, int]:
        items = [(row, seed) for row in self.rows for seed in row.seeds]
        missing = {(row.number, seed) for row, seed in items if not self._is_there(row, seed)}
        groups = batches(items, self.config.sampler.batch_size)
        groups = [batch for batch in groups if any((row.number, seed) in missing for row, seed in batch)]
        if len(missing) < len(items):
            print(f"{len(items) - len(missing)} of {len(items)} pictures are there already", flush=True)
        state = {"done": 0, "start": time.monotonic()}

        def keep(batch: Sequence[Item], files: list[bytes]) -> None:
            for (row, seed), file in zip(batch, files, strict=True):
                if (row.number, seed) in missing:
                    write_bytes(self._path(row, seed), file, sync=False)
                    state["done"] += 1
            left = (time.monotonic() - state["start"]) / state["done"] * (len(missing) - state["done"])
            print(f"{state['done']}/{len(missing)} pictures, {left:.0f} s left", flush=True)

        tasks = [
            Task(
                f"batch {i + 1} of {len(groups)}",
                "make",
                functools.partial(self._arguments, batch),
                functools.partial(keep, batch),
            )
            for i, batch in enumerate(groups)
        ]
        run_tasks(functools.partial(Portraitist, self.config), tasks, self.config.workers)
        return len(missing), len(items)

    def _arguments(self, batch: Sequence[Item]) -> tuple[list[Request], list[dict[str, object]]]:
        """The photos are prepared once more: those of all rows at once would need much memory."""
        first = {row.number: self._request(row)[0] for row, _ in batch}
        return [replace(first[row.number], seed=seed) for row, seed in batch], [self._text(*item) for item in batch]

    def _text(self, row: ManifestRow, seed: int) -> dict[str, object]:
        photos = find_references(row.photos) if row.photos else []
        key = (row.number, seed)
        if key not in self._texts:
            places, loras = tuple(map(str, photos)), self._loras(row)
            named = tuple(f"{place}:{strength}" for place, strength in loras.items())
            only: dict[str, Any] = {
                "manifest": None,
                "prompt": row.prompt,
                "id_images": places,
                "loras": named,
                "images": 1,
            }
            cell = replace(self.config, **only, seed=seed)
            said = about(cell, row.prompt, [Path(place).name for place in row.photos], None)
            said |= {"seed": seed, "weights_sha256": self.digest}
            self._texts[key] = said | recorded(cell, [photos], self.base.fingerprint)
        return self._texts[key]

    def _path(self, row: ManifestRow, seed: int) -> Path:
        return (Path(self.config.output) / row.file(seed)).with_suffix(SUFFIXES[self.config.format])

    def _is_there(self, row: ManifestRow, seed: int) -> bool:
        """Whether there is a picture that says it was made as it would be now."""
        try:
            found = read_about(self._path(row, seed))
        except RequestError:
            return False
        return found == {key: str(value) for key, value in self._text(row, seed).items()}


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
