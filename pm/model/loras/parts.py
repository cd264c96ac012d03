"""From the tensors that a file has for one layer to the change they make of it.

LoRA and LoCon are B A; LoHa is a Hadamard product (B1 A1) * (B2 A2), LoKr a Kronecker product (Hyeon-Woo et al. 2022,
Yeh et al. 2023). A Tucker core of a convolution is multiplied out.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from pm.errors import CheckpointError
from pm.model.loras.change import Bias, Change, Dense, Kronecker, LowRank
from pm.model.loras.scale import Scales

NAMES = (
    ("lora_A", "lora_B", "mid"),
    ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
    ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"),
    ("diff",),
)
BESIDE = ("alpha", "scalar", "bias")  # numbers of the layer, and a change of its bias


def change_of(parts: Mapping[str, Tensor], shape: tuple[int, ...], scales: Scales) -> Change:
    """One layer's change.

    Args:
        parts: tensors by the names above.
        shape: of the layer's weight.
        scales: what the file says of strength elsewhere.

    Raises:
        CheckpointError: tensors are missing or do not fit; the message goes on from the layer's name.
    """
    groups = [names for names in NAMES if any(name in parts for name in names)]
    if len(groups) != 1:
        raise CheckpointError(f"has {'parts of two methods' if groups else 'no weights'} ({', '.join(sorted(parts))})")
    try:
        change = _MAKERS[NAMES.index(groups[0])](parts, shape, scales)
    except KeyError as error:
        raise CheckpointError(f"lacks {error.args[0]}") from None
    except (RuntimeError, IndexError) as error:
        found = ", ".join(f"{name} {list(value.shape)}" for name, value in sorted(parts.items()))
        raise CheckpointError(f"does not fit a weight of shape {list(shape)} ({found})") from error
    if "bias" not in parts:
        return change
    if parts["bias"].shape != shape[:1]:
        raise CheckpointError(f"changes {parts['bias'].numel()} biases of {shape[0]}")
    return Bias(change, parts["bias"])


def _low_rank(parts: Mapping[str, Tensor], shape: tuple[int, ...], scales: Scales) -> Change:
    down, up = parts["lora_A"], parts["lora_B"]
    rank = down.shape[0]
    up = up.reshape(shape[0], -1)
    if "mid" in parts:  # a convolution of three: 1 x 1, k x k, 1 x 1
        down = torch.einsum("rskl,si->rikl", parts["mid"].float(), down.float().flatten(1))
    if up.shape[1] != rank:
        raise RuntimeError("ranks differ")
    return LowRank(down.reshape(rank, *shape[1:]), _times(up, _strength(parts, rank, scales)))


def _hadamard(parts: Mapping[str, Tensor], shape: tuple[int, ...], scales: Scales) -> Change:
    a, b, c, d = (parts[name].float() for name in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"))
    strength = _strength(parts, b.shape[0], scales)
    if "hada_t1" in parts or "hada_t2" in parts:
        whole = _tucker(parts["hada_t1"], a, b) * _tucker(parts["hada_t2"], c, d)
        return Dense((strength * whole).reshape(shape))
    b, d = b.flatten(1), d.flatten(1)
    inputs = torch.Size(shape[1:]).numel()
    if (a.shape[0], b.shape[1]) != (shape[0], inputs) or (a @ b).shape != (c @ d).shape:
        raise RuntimeError("another layer's")
    rank = a.shape[1] * c.shape[1]
    if rank * (shape[0] + inputs) >= shape[0] * inputs:
        return Dense((strength * (a @ b) * (c @ d)).reshape(shape))
    # The Hadamard product of matrices of ranks p and q has rank p q at most: all products of their columns and rows.
    up, down = torch.einsum("op,oq->opq", a, c), torch.einsum("pi,qi->pqi", b, d)
    return LowRank(down.reshape(rank, *shape[1:]), strength * up.flatten(1))


def _kronecker(parts: Mapping[str, Tensor], shape: tuple[int, ...], scales: Scales) -> Change:
    rank = None
    if "lokr_w1" in parts:
        left = parts["lokr_w1"].float()
    else:
        left = parts["lokr_w1_a"].float() @ parts["lokr_w1_b"].float()
        rank = parts["lokr_w1_b"].shape[0]
    if "lokr_w2" in parts:
        right = parts["lokr_w2"].float()
    elif "lokr_t2" in parts:
        right = _tucker(parts["lokr_t2"], parts["lokr_w2_a"].float(), parts["lokr_w2_b"].float())
        rank = parts["lokr_t2"].shape[0]
    else:
        right = parts["lokr_w2_a"].float() @ parts["lokr_w2_b"].float().flatten(1)
        rank = parts["lokr_w2_b"].shape[0]
    # Two whole factors have no rank: LyCORIS takes them as they are, PEFT multiplies by what its settings say.
    strength = _strength(parts, rank, scales)
    right = right.reshape(shape[0] // left.shape[0], shape[1] // left.shape[1], *shape[2:])
    if (left.shape[0] * right.shape[0], left.shape[1] * right.shape[1]) != shape[:2]:
        raise RuntimeError("another layer's")
    return Kronecker(left, right * strength)


def _whole(parts: Mapping[str, Tensor], shape: tuple[int, ...], scales: Scales) -> Change:
    return Dense(_times(parts["diff"].reshape(shape), float(parts["scalar"]) if "scalar" in parts else 1.0))


_MAKERS = (_low_rank, _hadamard, _kronecker, _whole)


def _tucker(core: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Core [r, s, kh, kw] between a [r, out] and b [s, in]: [out, in, kh, kw]."""
    return torch.einsum("rskl,ro,si->oikl", core.float(), a, b)


def _strength(parts: Mapping[str, Tensor], rank: int | None, scales: Scales) -> float:
    """alpha / rank, as the layer says it, or the file for all layers; 1 where nothing says it."""
    own = float(parts["alpha"]) if "alpha" in parts else None
    return scales.of(own, rank) * (float(parts["scalar"]) if "scalar" in parts else 1.0)


def _times(value: Tensor, factor: float) -> Tensor:
    return value if factor == 1 else value.float() * factor
