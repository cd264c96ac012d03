"""A spread-spectrum mark (Cox et al. 1997) in a picture's brightness, tiled, that is found again by its period.

A keyed pattern of 64 x 64 cells of 6 px repeats over the picture, stronger where the picture itself is busy. A second
pattern lies beside it, shifted by the number that the mark carries: 4096 orthogonal codewords of 4096 chips, the
longest code that a tile holds. To find both, a picture is folded to one tile for each scale it may have been brought
to, and correlated with the pattern at all shifts at once; so neither the cut nor the size has to be known. Cells of
6 px put the mark below 1/12 cycle per pixel: half the size and JPEG leave it there.
"""

import functools
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Gt, Interval
from scipy import ndimage

from pm.errors import ConfigError
from pm.protect.watermarks.mark import Found, WatermarkChoice

CELLS, CELL = 64, 6  # along a tile; px
NUMBERS = CELLS * CELLS
KEY = "PHOTOMAKER_WATERMARK_KEY"
_PUBLIC = b"photomaker"  # the key where none is given: everybody can find the mark
_SCALES = (0.25, 1.6)  # of a picture that is searched, to the one that was marked
_MOST = 1024  # px along the longer side of what is searched
_GRID = 2 * CELLS  # half cells along a tile: a cut need not meet whole ones
_FINEST = 2.0  # px of a cell that can be seen
_READABLE = 5.5  # deviations: one of 4096 numbers is wrong by chance 0.0001 times
_LEAST = 48  # px; less holds too few cells for any certainty


@dataclass(frozen=True)
class Spread(WatermarkChoice):
    """The mark of this module."""

    strength: Annotated[float, Gt(0), Interval(le=8)]  # levels of 255 where the picture is flat
    number: Annotated[int, Interval(ge=0, lt=NUMBERS)]  # what the mark says
    key: str | None  # a file with a secret; None: the environment's PHOTOMAKER_WATERMARK_KEY, else the public key
    threshold: Annotated[float, Gt(0)]  # standard deviations of the best correlation from which it counts as found

    holds_in = 512

    def embed(self, pixels: np.ndarray) -> np.ndarray:
        height, width = pixels.shape[:2]
        tile = _tile(self._secret(), self.number)
        rows, columns = (-(-side // tile.shape[0]) for side in (height, width))
        mark = np.tile(tile, (rows, columns))[:height, :width] * (self.strength * _room(_luma(pixels)))
        return np.clip(np.rint(pixels + mark[..., None]), 0, 255).astype(np.uint8)

    def find(self, pixels: np.ndarray) -> Found:
        if min(pixels.shape[:2]) < _LEAST:
            return Found(False, 0.0, self.threshold, None)
        first, second = _spectra(self._secret())
        searched = _Searched(_luma(pixels))
        best = _Peak(0.0)
        for scale in searched.scales():
            spectrum = searched.spectrum(scale)
            if spectrum is None:
                continue
            for mirrored in (False, True):
                turned = _mirrored(spectrum) if mirrored else spectrum
                scores = _correlations(turned, first)
                if scores.max() > best.score:
                    best = _Peak(float(scores.max()), scale, mirrored, int(scores.argmax()), turned)
            if best.score > 2 * self.threshold:
                break  # nothing better is needed to read the number
        if best.spectrum is None or best.score < self.threshold:
            return Found(False, best.score, self.threshold, None)
        y, x = divmod(best.shift, _GRID)
        scores = np.roll(_correlations(best.spectrum, second), (-y, -x), (0, 1))[::2, ::2]
        number = int(scores.argmax()) if scores.max() >= _READABLE else None
        return Found(True, best.score, self.threshold, number, best.scale, best.mirrored)

    def _secret(self) -> bytes:
        if self.key is None:
            return os.environ.get(KEY, "").encode() or _PUBLIC
        try:
            secret = Path(self.key).expanduser().read_bytes().strip()
        except OSError as error:
            raise ConfigError(f"watermark.key={self.key} cannot be read ({error.strerror}); name a file") from error
        if not secret:
            raise ConfigError(f"watermark.key={self.key} is empty; put some 32 random characters there")
        return secret

    @property
    def public(self) -> bool:
        """Whether everybody can find the mark."""
        return self._secret() == _PUBLIC


@dataclass(frozen=True)
class _Peak:
    score: float
    scale: float = 1.0
    mirrored: bool = False
    shift: int = 0
    spectrum: np.ndarray | None = None


def _luma(pixels: np.ndarray) -> np.ndarray:
    """float32 [H, W], ITU-R BT.601."""
    return pixels.astype(np.float32) @ np.asarray([0.299, 0.587, 0.114], np.float32)


def _room(luma: np.ndarray) -> np.ndarray:
    """How much more than in a flat place the mark may change each pixel, 1 to 3: by the spread around it."""
    size = 2 * CELL + 1
    mean = ndimage.uniform_filter(luma, size, mode="nearest")
    spread = np.sqrt(np.maximum(ndimage.uniform_filter(luma * luma, size, mode="nearest") - mean * mean, 0))
    return 1 + np.minimum(spread / 12, 2)


@functools.lru_cache(8)
def _patterns(secret: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Two patterns [CELLS, CELLS] of a key, each of mean 0 and norm 1, made of SHA-256 in counter mode."""
    blocks = (hashlib.sha256(secret + b"\0watermark\0" + bytes(divmod(i, 256))).digest() for i in range(NUMBERS // 128))
    bits = np.unpackbits(np.frombuffer(b"".join(blocks), np.uint8)).astype(np.float64).reshape(2, CELLS, CELLS)
    signs = 2 * bits - 1
    centred = signs - signs.mean((1, 2), keepdims=True)
    first, second = centred / np.linalg.norm(centred, axis=(1, 2), keepdims=True)
    return first, second


@functools.lru_cache(8)
def _spectra(secret: bytes) -> list[np.ndarray]:
    """Those of the two patterns on the grid of half cells, each of norm 1."""
    found = []
    for pattern in _patterns(secret):
        grid = pattern.repeat(2, 0).repeat(2, 1) / 2
        spectrum = np.fft.rfft2(grid)
        found.append(spectrum)
    return found


@functools.lru_cache(8)
def _tile(secret: bytes, number: int) -> np.ndarray:
    """float32 [CELLS * CELL, CELLS * CELL] of standard deviation 1, smooth between the cells."""
    first, second = _patterns(secret)
    cells = first + np.roll(second, divmod(number, CELLS), (0, 1))
    smooth = ndimage.zoom(cells, CELL, order=3, mode="grid-wrap", grid_mode=True)
    return (smooth / smooth.std()).astype(np.float32)


class _Searched:
    """A picture whose cells can be averaged at any scale at once."""

    def __init__(self, luma: np.ndarray) -> None:
        factor = -(-max(luma.shape) // _MOST)
        if factor > 1:
            high, wide = (side // factor for side in luma.shape)
            luma = luma[: high * factor, : wide * factor].reshape(high, factor, wide, factor).mean((1, 3))
        self.reduced = 1 / factor
        self.shape = luma.shape
        self._sums = np.pad(luma.astype(np.float64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)

    def scales(self) -> Iterator[float]:
        """Scales so close that over the longer side the cells lie wrong by at most a quarter of one.

        The plain ones come first and are met exactly.
        """
        yield from (1.0, 0.5, 0.75, 0.25, 1.5)
        side = max(self.shape)
        fewest, most = (side / (CELL * scale * self.reduced) for scale in _SCALES[::-1])
        for cells in np.arange(fewest, min(most, side / _FINEST), 0.5):
            yield side / (CELL * cells * self.reduced)

    def spectrum(self, scale: float) -> np.ndarray | None:
        """That of the picture folded to one tile; its correlation with a pattern of norm 1 then has deviation 1.

        Returns:
            As of `numpy.fft.rfft2`, [_GRID, _GRID // 2 + 1]; None where cells are too small to be seen.
        """
        cell = scale * self.reduced * CELL
        if cell < _FINEST:
            return None
        detail = _detail(self._averages(cell / 2))
        rows, columns = (-(-side // _GRID) for side in detail.shape)
        padded = np.zeros((rows * _GRID, columns * _GRID))
        padded[: detail.shape[0], : detail.shape[1]] = detail
        spectrum = np.fft.rfft2(padded.reshape(rows, _GRID, columns, _GRID).sum((0, 2)))
        # The strength of a frequency says what the picture is, its phase where the mark lies.
        spectrum /= np.maximum(np.abs(spectrum), 1e-9)
        spectrum[0, 0] = 0
        return spectrum * _GRID

    def _averages(self, size: float) -> np.ndarray:
        """Means of squares of `size` px, broken pixels by their share: float64 [rows, columns]."""
        sums = self._sums
        for axis in (0, 1):
            edges = np.arange(int((sums.shape[axis] - 1) / size) + 1) * size
            low = np.minimum(edges.astype(int), sums.shape[axis] - 2)
            share = np.expand_dims(edges - low, 1 - axis)
            sums = sums.take(low, axis) * (1 - share) + sums.take(low + 1, axis) * share
        return np.diff(np.diff(sums, axis=0), axis=1) / (size * size)


def _detail(means: np.ndarray) -> np.ndarray:
    """What differs from around it, by the spread there: float64 like `means`, [half cells, half cells]."""
    detail = means - ndimage.uniform_filter(means, 5, mode="nearest")
    spread = np.sqrt(np.maximum(ndimage.uniform_filter(detail * detail, 13, mode="nearest"), 0)) + 0.3
    return np.clip(detail / spread, -2.5, 2.5)


def _mirrored(spectrum: np.ndarray) -> np.ndarray:
    """That of the picture seen in a mirror."""
    return np.roll(spectrum[::-1], 1, axis=0).conj()


def _correlations(spectrum: np.ndarray, pattern: np.ndarray) -> np.ndarray:
    """With a pattern at all shifts: [_GRID, _GRID]."""
    return np.fft.irfft2(spectrum * pattern.conj(), s=(_GRID, _GRID))
