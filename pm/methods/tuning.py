"""How a person is learned, for methods that do so one person at a time."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Interval

from pm.train.losses.choice import LossWeights


@dataclass(frozen=True)
class Tuning:
    """How one person is learned (`conf/method/*.yaml`)."""

    steps: Annotated[int, Ge(1)]  # optimizer updates
    batch_size: Annotated[int, Ge(1)]  # photos of the person in each
    lr: Annotated[float, Gt(0)]
    weight_decay: Annotated[float, Ge(0)]
    masked_loss: Annotated[float, Interval(ge=0, le=1)]  # probability of a loss inside the person mask only
    loss_weights: LossWeights  # over the noise levels
    gradient_checkpointing: bool  # less memory, more time: for large bases
