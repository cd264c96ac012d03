"""What one photograph costs on one core after decoding: face, square crop, person mask.

    python benchmarks/photo.py                     # the photograph of the tests, enlarged to 12 megapixels
    python benchmarks/photo.py --photo my.jpg

Both ways run in turns in one process, on the same pixels; the median of each step is printed.
"""

import argparse
import os
import statistics
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from pm.photo.crop import CropConfig, cut_square
from pm.photo.defaults import shipped_preparation
from pm.photo.faces.dlib import Dlib
from pm.photo.masks.grabcut import GrabCut
from pm.photo.masks.select import find_masks, select_mask
from pm.photo.pixels import read_photo
from pm.photo.prepare import select_face
from pm.photo.stored import Preparation
from pm.photo.types import PhotoView, Refusal

ROOT = Path(__file__).resolve().parents[1]
PHOTO = ROOT / "tests" / "support" / "astronaut" / "photo.jpg"
SIZE = (4000, 3000)  # 12 megapixels
STEPS = ("face", "crop", "mask")


def twelve_megapixels(path: Path) -> np.ndarray:
    """The photograph in the middle of a picture of a telephone's size, its height filled."""
    width, height = SIZE
    ground = Image.new("RGB", SIZE, "gray")
    photo = Image.fromarray(read_photo(path))
    photo = photo.resize((round(photo.width * height / photo.height), height), Image.Resampling.LANCZOS)
    ground.paste(photo, ((width - photo.width) // 2, 0))
    return np.asarray(ground)


def run(pixels: np.ndarray, how: Preparation, detector, masker) -> dict[str, float]:
    """Milliseconds of each step."""
    clock = [time.perf_counter()]
    photo = PhotoView.of(pixels)
    selected = select_face(photo, detector, how.face.min_size)
    clock.append(time.perf_counter())
    if isinstance(selected, Refusal):
        raise SystemExit(f"no face to measure on: {selected.sentence()}")
    crop = cut_square(photo, selected.face, how.crop)
    clock.append(time.perf_counter())
    (candidates,) = find_masks([crop], masker)
    select_mask(crop, candidates, how.mask.min_overlap, how.mask.max_share)
    clock.append(time.perf_counter())
    return {step: 1000 * (b - a) for step, a, b in zip(STEPS, clock, clock[1:], strict=False)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", type=Path, default=PHOTO)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})
    cv2.setNumThreads(1)
    pixels = twelve_megapixels(args.photo)
    ways = {
        "yunet + selfie": shipped_preparation(),
        "dlib + grabcut": Preparation(
            Dlib("dlib", 80, upsample=1, max_side=1280),
            GrabCut("grabcut", 0.3, 0.95, iterations=5, side=256),
            CropConfig(0.1, 512, 2.0),
        ),
    }
    built = {name: (how, how.face.build(), how.mask.build()) for name, how in ways.items()}
    times: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for turn in range(args.rounds + 1):
        for name, parts in built.items():
            measured = run(pixels, *parts)
            if turn:  # the first warms up
                times[name].append(measured)
    print(f"{pixels.shape[1]} x {pixels.shape[0]} pixels, one core, {args.rounds} rounds, medians in ms\n")
    print("| | " + " | ".join(STEPS) + " | together | slowest |\n|---|" + "---|" * 5)
    for name, rows in times.items():
        totals = [sum(row.values()) for row in rows]
        cells = [statistics.median(row[step] for row in rows) for step in STEPS]
        cells += [statistics.median(totals), max(totals)]
        print(f"| {name} | " + " | ".join(f"{value:.0f}" for value in cells) + " |")


if __name__ == "__main__":
    main()
