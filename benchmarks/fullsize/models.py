"""Models on a folder of random weights: adapters, pipelines, a training step and batches, for speed and memory."""

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.fullsize import here
from pm.config import from_mapping

PROMPT, PLAIN = "a man img in a red hoodie", "a man in a red hoodie"


class NotAvailable(Exception):
    """This machine, or this version of the project, does not have what a row needs; the text says what."""


def write_adapter(base: Path, path: Path, seed: int = 0) -> Path:
    """An adapter of random weights on a base, with the settings of `model=photomaker`; what is there is kept."""
    from pm.model.adapter import adapter_state, meta_of
    from pm.model.adapter_file import save_adapter
    from pm.model.base import load_base

    if path.exists():
        return path
    torch.manual_seed(seed)
    model = adapter_choice().build(load_base(base, ("unet",), dtype=torch.bfloat16))
    with torch.no_grad():
        for parameter in model.parameter_groups()["lora"]:
            parameter.normal_(0.0, 0.01)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_adapter(path, adapter_state(model), meta_of(model, crop_mode="none", project_version="0"))
    return path


def adapter_choice(**over: Any) -> Any:
    """The settings of `model=photomaker`; unknown ones of `over` are not available."""
    from pm.errors import ConfigError
    from pm.model.kinds.base import AdapterChoice

    settings = here.read("model/photomaker") | {"compose": here.read("compose/stacked"), "merge": "insert"}
    try:
        return from_mapping(AdapterChoice, settings | over, "adapter")
    except ConfigError as error:
        raise NotAvailable(str(error)) from error


def load_pipeline(base: Path, adapter: Path | None, device: str, dtype: torch.dtype, compiled: str = "off") -> Any:
    """`PhotoMakerPipeline` with one adapter; `compiled`: off, regional or full."""
    from pm.sample.pipeline import PhotoMakerPipeline

    how: Any = compiled
    if inspect.signature(PhotoMakerPipeline.from_pretrained).parameters["compile"].default is False:
        if compiled == "regional":
            raise NotAvailable("this version compiles the whole U-Net or nothing")
        how = compiled == "full"
    given: dict[str, Any] = {"device": device, "dtype": dtype, "schedule": "ddim", "compile": how}
    return PhotoMakerPipeline.from_pretrained(base, adapter, merge_fraction=0.0, **given)


def id_embeds(pipeline: Any, photos: int, seed: int = 0) -> torch.Tensor:
    """What an adapter knows of so many photos of noise."""
    from PIL import Image

    side = pipeline.photomaker.image_size
    found = [Image.effect_noise((side, side), 60 + seed + i).convert("RGB") for i in range(photos)]
    return pipeline.embed(pipeline.references(found, preprocess="none"))


def random_batch(base: Any, micro: int, references: int = 4, seed: int = 0) -> Any:
    """A `Batch` on the CPU as the loader makes them, of random numbers, drawn as the paper's objective draws.

    Args:
        base: a `BaseModel`.
        micro: samples.
        references: ID photos of each.
        seed: of the numbers.
    """
    from pm.data.loading.batches import Sample, collate
    from pm.model.files import read_json
    from pm.train.diffusion import draw, noise_schedule

    g = torch.Generator().manual_seed(seed)
    latent = (base.latent_channels, base.latent_size, base.latent_size)
    side, eye = base.resolution, read_json(Path(base.vision_path) / "config.json")["image_size"]

    def sample(number: int) -> Sample:
        return Sample(
            mean=torch.randn(latent, generator=g),
            logvar=torch.randn(latent, generator=g) - 4,
            mask=(torch.rand(1, *latent[1:], generator=g) > 0.5).float(),
            embeds=torch.randn(base.max_tokens, base.text_width, generator=g),
            pooled=torch.randn(base.pooled_width, generator=g),
            time_ids=torch.tensor(base.family.time_ids((side, side), (0, 0), (side, side))),
            class_index=2,
            caption=PLAIN,
            class_word="man",
            id_pixels=torch.randint(0, 256, (references, 3, eye, eye), generator=g, dtype=torch.uint8),
            drop_text=False,
            use_mask=False,
            seed=seed + number,
        )

    batch = collate([sample(i) for i in range(micro)])
    draws = draw(batch.seeds, latent, len(noise_schedule(base.scheduler_config)))
    batch = replace(batch, draws=draws)
    return batch.pin_memory() if torch.cuda.is_available() else batch


def build_training(base: Path, device: str, engine: str, micro: int, precision: str, **over: Any) -> tuple[Any, Any]:
    """Engine and `BaseModel` as `run_worker` builds them.

    Args:
        base: folder.
        device: where.
        engine: a file of `conf/engine/`; ZeRO needs `here.join_group`.
        micro: samples of a pass.
        precision: fp32 or bf16.
        over: `compile` of `train`; all others are settings of the adapter.

    Raises:
        NotAvailable: a setting is not there in this version.
    """
    from pm.errors import ConfigError
    from pm.model.base import load_base
    from pm.train.run.config import RunConfig
    from pm.train.run.context import LocalContext
    from pm.train.run.model import new_engine, new_model

    train = {"batch_size": micro, "micro_batch_size": micro, "precision": precision}
    if over.get("compile", "off") != "off":
        train["compile"] = over["compile"]
    settings = here.train_settings(Path("unused"), base, engine, **train)
    settings["adapter"] |= {key: value for key, value in over.items() if key != "compile"}
    try:
        config = from_mapping(RunConfig, settings)
    except ConfigError as error:
        raise NotAvailable(str(error)) from error
    context = LocalContext("unused", device=device)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    parts = tuple(config.adapter.parts())
    loaded = load_base(base, parts, vision_path=str(base / "image_encoder"), device=device, dtype=dtype)
    photomaker = new_model(config, loaded)
    return new_engine(config, context, loaded, photomaker, None, None), loaded


def one_step(engine: Any, batch: Any, device: str) -> torch.Tensor:
    """Forward, backward and update on one batch; the loss, detached."""
    loss = engine.forward(batch.to(torch.device(device))).mean()
    engine.backward(loss)
    engine.step()
    return loss.detach()
