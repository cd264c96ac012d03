"""What protection costs, what a watermark outlives, and how often one is found where there is none.

python benchmarks/protection.py photos=folder unmarked=1000
"""

import io
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from pm.protect.config import ProtectConfig, SignatureConfig
from pm.protect.protector import Protector
from pm.protect.watermarks.spread import Spread
from pm.sample.output_file import picture_bytes

MARK = Spread("spread", 1.0, 1234, None, 7.0)
SIDE = 512


def main() -> None:
    given = dict(word.split("=", 1) for word in sys.argv[1:])
    photos = [Image.open(p).convert("RGB") for p in sorted(Path(given["photos"]).rglob("*.[jp][pn]g"))]
    pictures = [photo.resize((SIDE, SIDE), Image.Resampling.LANCZOS) for photo in photos]
    costs(pictures)
    survival(pictures)
    false_positives(photos, int(given.get("unmarked", 1000)))


def costs(pictures: list[Image.Image]) -> None:
    signed = SignatureConfig(None, None, None, False)
    sets = {
        "nothing": ProtectConfig(None, None, None, None),
        "manifest": ProtectConfig(signed, None, None, None),
        "watermark": ProtectConfig(None, MARK, None, None),
    }
    for name, config in sets.items():
        protector, times, sizes = Protector(config), [], []
        for picture in pictures:
            begin = time.process_time()
            sizes.append(len(picture_bytes(picture, {}, "png", 100, protector=protector)))
            times.append(time.process_time() - begin)
        print(f"cost {name}: {statistics.median(times) * 1e3:.0f} ms, {statistics.mean(sizes):.0f} bytes", flush=True)


def edits(marked: Image.Image) -> Iterator[tuple[str, Image.Image]]:
    half = marked.resize((SIDE // 2, SIDE // 2), Image.Resampling.LANCZOS)
    cut = marked.crop((50, 70, 434, 454))
    yield "as it is", marked
    for quality in (90, 75, 50):
        yield f"JPEG {quality}", jpeg(marked, quality)
    yield "half", half
    yield "half, JPEG 75", jpeg(half, 75)
    yield "300 px", marked.resize((300, 300), Image.Resampling.BICUBIC)
    yield "cut to 75 %", cut
    yield "cut to 75 %, JPEG 75", jpeg(cut, 75)
    yield "cut to 50 %", marked.crop((100, 120, 356, 376))
    yield "mirrored", marked.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def survival(pictures: list[Image.Image]) -> None:
    scores: dict[str, list[tuple[float, bool]]] = {}
    for picture in pictures:
        for name, image in edits(Image.fromarray(MARK.embed(np.asarray(picture)))):
            found = MARK.find(np.asarray(image))
            scores.setdefault(name, []).append((found.score if found.found else 0.0, found.number == MARK.number))
    for name, each in scores.items():
        count = sum(score > 0 for score, _ in each)
        print(f"{name}: found {count} of {len(each)}, number {sum(right for _, right in each)}", flush=True)


def false_positives(photos: list[Image.Image], count: int) -> None:
    random, best, found = np.random.default_rng(0), 0.0, 0
    for i in range(count):
        score = MARK.find(np.asarray(unmarked(photos, random, i)))
        best, found = max(best, score.score), found + score.found
        if (i + 1) % 50 == 0:
            print(f"unmarked: {found} of {i + 1} found, highest score {best:.2f}", flush=True)


def unmarked(photos: list[Image.Image], random: np.random.Generator, number: int) -> Image.Image:
    """A crop of a photo or, one in four, noise."""
    if number % 4 == 3:
        return Image.fromarray(random.integers(0, 256, (192, 192, 3), dtype=np.uint8))
    photo = photos[int(random.integers(len(photos)))]
    side = int(random.integers(160, min(photo.size) + 1))
    left, top = (int(random.integers(0, extent - side + 1)) for extent in photo.size)
    return photo.crop((left, top, left + side, top + side)).resize((192, 192), Image.Resampling.LANCZOS)


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


if __name__ == "__main__":
    main()
