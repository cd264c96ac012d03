"""The model of a run, and the engine around it."""

import torch

from pm.model.base import BaseModel
from pm.model.trained import TrainedAdapter
from pm.train.callbacks.progress import Progress
from pm.train.checkpoint import Restored
from pm.train.compiled import compile_for_training
from pm.train.diffusion import noise_schedule
from pm.train.engine.base import Engine, load_weights
from pm.train.run.config import RunConfig
from pm.train.run.context import TrainContext
from pm.train.step import choose_precision, train_in_float32


def new_model(config: RunConfig, base: BaseModel) -> TrainedAdapter:
    """A new adapter in training mode, or one that starts from `config.init`; trained weights in float32."""
    torch.manual_seed(config.seed)  # the same new weights on every rank
    photomaker = config.adapter.build(base)
    if config.init is not None:
        config.adapter.start_from(photomaker, config.init)
    train_in_float32(photomaker)
    return photomaker.train()


def new_engine(
    config: RunConfig,
    context: TrainContext,
    base: BaseModel,
    photomaker: TrainedAdapter,
    saved: Restored | None,
    progress: Progress | None,
) -> Engine:
    """The engine around the objective's step, on the device, with the weights of a checkpoint if there is one."""
    step = config.train.objective.build(
        photomaker,
        noise_schedule(base.scheduler_config),
        base.scaling_factor,
        choose_precision(config.train.precision, context.device),
        config.train.loss_weights,
    )
    if saved is not None:
        load_weights(step, saved.engine.weights)
    groups = photomaker.parameter_groups()
    choice, why = config.engine.settled(step, config.train, context.device)
    if why and progress is not None:
        progress.note(why)
    engine = choice.build(step, groups, config.train, context.device)
    # Split weights are flat; and DeepSpeed's broadcast at the start takes only plain ones.
    if not engine.splits_weights:
        for parameter in photomaker.unet.parameters():
            # What is trained has a gradient in the engine's own memory, of the format that it had then.
            if parameter.ndim == 4 and not parameter.requires_grad:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    compile_for_training(photomaker, config.train.compile, engine.splits_weights)
    torch.manual_seed(config.seed + 1 + context.rank)
    return engine
