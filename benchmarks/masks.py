"""The picture docs/images/masks.png: what GrabCut around HOG's face, and the segmentation around YuNet's, cut out.

    python benchmarks/masks.py                            # the photograph of the tests
    python benchmarks/masks.py --silhouettes my/photos    # beside it, the masks alone of photographs not to be shown

Rows: the crop, `face=dlib mask=grabcut`, `face=yunet mask=selfie`; outside the mask is magenta. Of silhouettes the
person is grey, and the crop is left out. A photo that a way refuses is a crossed-out square.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pm.photo.crop import CropConfig
from pm.photo.defaults import shipped_preparation
from pm.photo.faces.dlib import Dlib
from pm.photo.masks.grabcut import GrabCut
from pm.photo.pixels import PHOTO_SUFFIXES, read_photo
from pm.photo.prepare import prepare
from pm.photo.stored import Preparation
from pm.photo.types import PhotoView, Refusal

ROOT = Path(__file__).resolve().parents[1]
PHOTO = ROOT / "tests" / "support" / "astronaut" / "photo.jpg"
SIDE, GAP, MAGENTA, GREY = 160, 8, (214, 40, 160), (70, 70, 70)
LEAST = 40  # pixels of a face: the photograph of the tests is small


def ways() -> list[Preparation]:
    """Before and after."""
    crop = CropConfig(0.1, 512, 2.0)
    before = Preparation(Dlib("dlib", LEAST, 1, 1280), GrabCut("grabcut", 0.3, 0.95, 5, 256), crop)
    after = shipped_preparation()
    return [before, replace(after, face=replace(after.face, min_size=LEAST))]


def column(pixels: np.ndarray, built: list, show: bool) -> Image.Image:
    """The crop and its two masks, one above the other."""
    done = [prepare(PhotoView.of(pixels), how, detector, masker) for how, detector, masker in built]
    column = Image.new("RGB", (SIDE, 3 * SIDE + 2 * GAP), "white")
    if show and not isinstance(done[1], Refusal):
        column.paste(Image.fromarray(done[1].crop.pixels).resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    for number, one in enumerate(done, 1):
        tile = Image.new("RGB", (SIDE, SIDE), MAGENTA)
        if isinstance(one, Refusal):
            tile = Image.new("RGB", (SIDE, SIDE), "lightgray")
            ImageDraw.Draw(tile).line((0, 0, SIDE, SIDE, 0, SIDE, SIDE, 0), "gray", 2)
        else:
            person = Image.fromarray(one.crop.pixels) if show else Image.new("RGB", one.mask.shape, GREY)
            mask = Image.fromarray(one.mask).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            tile.paste(person.resize((SIDE, SIDE), Image.Resampling.LANCZOS), mask=mask)
        column.paste(tile, (0, number * (SIDE + GAP)))
    return column


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", type=Path, default=PHOTO)
    parser.add_argument("--silhouettes", type=Path, help="folder of photographs whose masks alone are shown")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images" / "masks.png")
    args = parser.parse_args()
    built = [(how, how.face.build(), how.mask.build()) for how in ways()]
    columns = [column(read_photo(args.photo), built, show=True)]
    if args.silhouettes:
        paths = sorted(p for p in args.silhouettes.rglob("*") if p.suffix.lower() in PHOTO_SUFFIXES)
        columns += [column(read_photo(path), built, show=False) for path in paths]
    picture = Image.new("RGB", ((SIDE + GAP) * len(columns) - GAP, columns[0].height), "white")
    for number, one in enumerate(columns):
        picture.paste(one, (number * (SIDE + GAP), 0))
    picture.save(args.output, optimize=True)
    print(f"written {args.output}")


if __name__ == "__main__":
    main()
