"""Pictures made during training: a few people of the dataset, each with a few prompts."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from PIL import Image
from torch import nn

from pm.data.dataset.reader import IdentityDataset
from pm.model.base import BaseModel
from pm.model.trained import TrainedAdapter
from pm.sample.grid import GridRow, labelled_grid
from pm.sample.output_file import save_png
from pm.sample.pipeline import PhotoMakerPipeline
from pm.sample.request import Request, request_of
from pm.train.run.config import ValidationConfig
from pm.train.run.context import TrainContext
from pm.train.step import Precision

FOLDER = "validation"


class Validation:
    """Makes one picture grid: a row for each person, the references and then one column for each prompt.

    The images are shared out between the workers; noise and people depend on neither their number nor the step.
    """

    def __init__(
        self,
        config: ValidationConfig,
        context: TrainContext,
        base: BaseModel,
        photomaker: TrainedAdapter,
        dataset: IdentityDataset,
        precision: Precision,
    ):
        self._config, self._context, self._precision = config, context, precision
        self._photomaker = photomaker
        self._pipeline = PhotoMakerPipeline(base, photomaker, schedule=config.sampler.schedule)
        self._references, self._requests = _requests(config, dataset, photomaker.trigger_word)

    def __call__(self, step: int) -> Path | None:
        """Sample with the weights as they are now; the grid's path on rank 0, else None. Collective."""
        images = self._gathered(self._sample(self._requests[self._context.rank :: self._context.workers]))
        if self._context.rank != 0:
            return None
        columns = len(self._config.prompts)
        rows = [
            GridRow(
                results=images[i * columns : (i + 1) * columns],
                references=references,
                caption=" | ".join(request.prompt for request in self._requests[i * columns : (i + 1) * columns]),
            )
            for i, references in enumerate(self._references)
        ]
        path = self._context.run_dir / FOLDER / f"step-{step:08d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_png(path, labelled_grid(rows, title=f"step {step}"), {"step": step, "seed": self._config.seed})
        return path

    @torch.no_grad()
    def _sample(self, requests: Sequence[Request]) -> list[Image.Image]:
        # A worker without rows samples one all the same: under ZeRO-3 every rank must call every module.
        todo = list(requests) or self._requests[:1]
        device = self._context.device.type
        with _evaluating(self._photomaker), torch.autocast(device, torch.bfloat16, enabled=self._precision.autocast):
            images = self._pipeline.generate(todo, batch_size=len(todo))
        return images[: len(requests)]

    def _gathered(self, mine: list[Image.Image]) -> list[Image.Image]:
        """All images on every rank, in the order of the requests."""
        workers = self._context.workers
        parts: list[list[Image.Image]] = [mine]
        if workers > 1:
            parts = [[] for _ in range(workers)]
            dist.all_gather_object(parts, mine)
        return [parts[i % workers][i // workers] for i in range(len(self._requests))]


class _evaluating:
    """Evaluation mode inside, training mode after."""

    def __init__(self, module: nn.Module):
        self._module = module

    def __enter__(self) -> None:
        self._module.eval()

    def __exit__(self, *_: object) -> None:
        self._module.train()


def _requests(
    config: ValidationConfig, dataset: IdentityDataset, trigger: str
) -> tuple[list[tuple[Image.Image, ...]], list[Request]]:
    """The references of each person, and the requests, person by person."""
    people = list(dict.fromkeys(dataset.identities))
    chosen = [people[i * len(people) // config.identities] for i in range(min(config.identities, len(people)))]
    references, requests = [], []
    for i, person in enumerate(chosen):
        rows = list(dataset.rows_of(person))[: config.references]
        images, masks = zip(*(_pictures(dataset, row) for row in rows), strict=True)
        faces = dataset.face_embeds(rows) if dataset.stored.faces else None
        word = dataset.row(rows[0], ("class_word",))["class_word"]
        references.append(images)
        requests += [
            request_of(
                config.sampler,
                prompt.format(class_word=word, trigger=trigger),
                id_images=images,
                masks=masks,
                face_embeds=faces,
                seed=config.seed + i,
            )
            for prompt in config.prompts
        ]
    return references, requests


def _pictures(dataset: IdentityDataset, row: int) -> tuple[Image.Image, Image.Image]:
    pixels, mask = dataset.reference(row)
    return (
        Image.fromarray(pixels.permute(1, 2, 0).numpy()),
        Image.fromarray(mask[0].numpy().astype("uint8") * 255),
    )
