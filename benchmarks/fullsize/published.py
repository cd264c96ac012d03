"""The published checkpoints' parameters, by name and shape, and the check of a folder against them.

`published.json.gz` holds, for each part, the shape of every parameter of stabilityai/stable-diffusion-xl-base-1.0 and
of the vision half of openai/clip-vit-large-patch14. It was made once, by `python -m benchmarks.fullsize.published`,
from diffusers 0.42.1 and transformers 5.23.0 with the published configurations, and compared with an independent list
of the single-file checkpoint's tensors (stable-diffusion-webui-model-toolkit, components/*-XL-SD.txt): the same shapes,
equally often, where that format fuses or flattens nothing. So it stays what it is when a library renames something.
"""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path

from benchmarks.fullsize.shapes import FULL, Size

FILE = Path(__file__).with_name("published.json.gz")
# Parameters of each part, as the model cards and papers count them.
COUNTS = {
    "text_encoder": 123_060_480,
    "text_encoder_2": 694_659_840,
    "vae": 83_653_863,
    "unet": 2_567_463_684,
    "image_encoder": 303_966_208,
}


def published() -> dict[str, dict[str, tuple[int, ...]]]:
    """Shapes by part and name."""
    found = json.loads(gzip.decompress(FILE.read_bytes()))
    return {part: {name: tuple(shape) for name, shape in shapes.items()} for part, shapes in found.items()}


def check_keys(part: str, shapes: Mapping[str, tuple[int, ...]], size: Size) -> None:
    """Compare a part with the published one; at another width the names and the number of axes alone.

    Raises:
        SystemExit: names the first difference.
    """
    known = published()[part]
    odd = sorted(known.keys() ^ shapes.keys())
    if odd:
        where = "missing" if odd[0] in known else "not in the published file"
        raise SystemExit(f"{part}: {len(odd)} keys differ from the published checkpoint, e.g. {odd[0]} is {where}")
    for name, shape in shapes.items():
        same = shape == known[name] if size == FULL else len(shape) == len(known[name])
        if not same:
            raise SystemExit(f"{part}: {name} is {list(shape)}, published is {list(known[name])}")


def main() -> None:
    import torch

    from benchmarks.fullsize.folder import stored_shapes
    from benchmarks.fullsize.shapes import builders

    with torch.device("meta"):
        found = {part: stored_shapes(part, build()) for part, build in builders(FULL).items()}
    text = json.dumps(found, separators=(",", ":"), sort_keys=True)
    FILE.write_bytes(gzip.compress(text.encode(), mtime=0))
    print(f"{FILE}: {sum(map(len, found.values()))} parameters")


if __name__ == "__main__":
    main()
