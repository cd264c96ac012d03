"""The attribute probe: a small CNN that reads every toon attribute from pixels.

It is the toon world's measuring instrument: identity score, prompt score and the identity embedding of the filters.
"""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pm.errors import CheckpointError
from pm.toon.attributes import ATTRIBUTES, IDENTITY_ATTRIBUTES
from pm.weights import check_weights

RESOLUTION = 64  # px; other sizes are resized


def _block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.GroupNorm(8, outputs), nn.SiLU())


class Probe(nn.Module):
    """Pixels [B, 3, 64, 64] in [0, 1] → one logit vector per attribute."""

    def __init__(self) -> None:
        super().__init__()
        # Folding 2 × 2 pixels into channels halves the resolution without losing what is one pixel wide (eyebrows).
        self.features = nn.Sequential(
            nn.PixelUnshuffle(2), _block(12, 32, 1), _block(32, 32, 1), _block(32, 64, 2), _block(64, 64, 1),
            _block(64, 96, 2), _block(96, 96, 1), _block(96, 128, 2),
        )  # fmt: skip
        self.neck = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(128 * 4 * 4, 256), nn.SiLU())
        self.heads = nn.ModuleDict({name: nn.Linear(256, len(values)) for name, values in ATTRIBUTES.items()})

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        if pixels.shape[-2:] != (RESOLUTION, RESOLUTION):
            pixels = nn.functional.interpolate(pixels, (RESOLUTION, RESOLUTION), mode="bilinear", antialias=True)
        hidden = self.neck(self.features(pixels * 2 - 1))
        return {name: head(hidden) for name, head in self.heads.items()}

    @torch.no_grad()
    def probabilities(self, images: np.ndarray, batch_size: int = 256) -> dict[str, np.ndarray]:
        """Images uint8 [B, H, W, 3] → attribute → float32 [B, classes]."""
        self.eval()
        parts: list[dict[str, Tensor]] = []
        for start in range(0, len(images), batch_size):
            pixels = torch.from_numpy(np.ascontiguousarray(images[start : start + batch_size]))
            logits = self(pixels.to(self.device).permute(0, 3, 1, 2).float() / 255)
            parts.append({k: v.softmax(-1).cpu() for k, v in logits.items()})
        return {k: torch.cat([p[k] for p in parts]).numpy() for k in ATTRIBUTES}

    def read(self, images: np.ndarray) -> list[dict[str, str]]:
        """Images uint8 [B, H, W, 3] → the most probable value of every attribute."""
        probabilities = self.probabilities(images)
        best = {k: p.argmax(-1) for k, p in probabilities.items()}
        return [{k: ATTRIBUTES[k][best[k][i]] for k in ATTRIBUTES} for i in range(len(images))]

    def embed(self, images: np.ndarray) -> np.ndarray:
        """Identity embedding float32 [B, E] of images uint8 [B, H, W, 3]: the probabilities of the class word and all
        identity attributes, unit length, so a dot product is a similarity."""
        probabilities = self.probabilities(images)
        joined = np.concatenate([probabilities[k] for k in ("class_word", *IDENTITY_ATTRIBUTES)], axis=1)
        return joined / np.linalg.norm(joined, axis=1, keepdims=True)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device


def save_probe(probe: Probe, path: Path | str) -> None:
    state = {k: v.contiguous().half() for k, v in probe.state_dict().items()}
    save_file(state, path, metadata={"attributes": json.dumps(ATTRIBUTES)})


def load_probe(path: Path | str) -> Probe:
    """Read a probe written by `save_probe`.

    Raises:
        CheckpointError: the file is missing, damaged, or was trained for another attribute table.
    """
    if not Path(path).is_file():
        raise CheckpointError(
            f"no toon probe at {path}; it is part of assets/toon (python -m pm.toon.pretrain makes it)"
        )
    check_weights(path)
    with safe_open(path, "pt") as file:
        attributes = json.loads(file.metadata()["attributes"])
        if attributes != {k: list(v) for k, v in ATTRIBUTES.items()}:
            raise CheckpointError(f"the probe {path} was trained for other attributes; run python -m pm.toon.pretrain")
        state = {k: file.get_tensor(k).float() for k in file.keys()}  # noqa: SIM118 (safe_open is no dict)
    probe = Probe()
    probe.load_state_dict(state)
    return probe.eval()
