"""A second structure of modules around the same weights."""

import copy
from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def shared_copy(module: M) -> M:
    """A copy that holds the very parameters and buffers of `module`, whose modules can be replaced without touching it.

    So LoRA or an embedding of one's own can be put into a model that others use at the same time.
    """
    return copy.deepcopy(module, {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())})
