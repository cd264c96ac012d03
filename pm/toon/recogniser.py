"""A recogniser of drawn people that is not the probe: for losses, so that what is learned is not what is scored with.

Another architecture (a patch embedding and transformer layers instead of convolutions), another loss (two photos of one
person against all others of a batch instead of named attributes), other photos and another seed:
`python -m pm.toon.pretrain.recogniser` makes it.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pm.errors import CheckpointError
from pm.weights import check_weights

RESOLUTION, WIDTH, LAYERS, EMBEDDING = 64, 96, 3, 64
_PATCH = 8
_KIND = "toon-recogniser-1"


class Recogniser(nn.Module):
    """Pixels float [B, 3, H, W] in 0..1 → unit vectors [B, E]: photos of one person lie near each other."""

    def __init__(self) -> None:
        super().__init__()
        tokens = (RESOLUTION // _PATCH) ** 2
        self.patches = nn.Sequential(nn.Conv2d(3, WIDTH // 2, 4, 4), nn.GELU(), nn.Conv2d(WIDTH // 2, WIDTH, 2, 2))
        self.place = nn.Parameter(torch.randn(1, tokens, WIDTH) * 0.02)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 3 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, EMBEDDING))

    def forward(self, pixels: Tensor) -> Tensor:
        if pixels.shape[-2:] != (RESOLUTION, RESOLUTION):
            pixels = F.interpolate(pixels, (RESOLUTION, RESOLUTION), mode="bilinear", antialias=True)
        tokens = self.patches(pixels * 2 - 1).flatten(2).transpose(1, 2) + self.place
        return F.normalize(self.head(self.layers(tokens).mean(1)), dim=-1)


def save_recogniser(recogniser: Recogniser, path: Path | str) -> None:
    """Write the weights, in half precision."""
    state = {k: v.detach().contiguous().half() for k, v in recogniser.state_dict().items()}
    save_file(state, path, metadata={"kind": _KIND})


def load_recogniser(path: Path | str) -> Recogniser:
    """Read what `save_recogniser` wrote, frozen.

    Raises:
        CheckpointError: missing, damaged, or something else.
    """
    if not Path(path).is_file():
        raise CheckpointError(
            f"no recogniser at {Path(path).absolute()}; python -m pm.toon.pretrain.recogniser {path} makes it"
        )
    check_weights(path)
    with safe_open(path, "pt") as file:
        if (file.metadata() or {}).get("kind") != _KIND:
            raise CheckpointError(f"{path} is no toon recogniser; python -m pm.toon.pretrain.recogniser makes one")
        state = {k: file.get_tensor(k).float() for k in file.keys()}  # noqa: SIM118 (safe_open is no dict)
    recogniser = Recogniser()
    recogniser.load_state_dict(state)
    return recogniser.eval().requires_grad_(False)
