"""A real photograph, in the public domain, and the folder of real people that only some machines have."""

from pathlib import Path

import numpy as np
from PIL import Image

ASTRONAUT = Path(__file__).resolve().parent / "astronaut" / "photo.jpg"
ASTRONAUTS_FACE = (133, 48, 203, 133)  # about; x0, y0, x1, y1
PEOPLE = Path(__file__).resolve().parents[3] / "shared" / "faces"


def astronaut(side: int = 384) -> np.ndarray:
    """One person before a mixed background, uint8 RGB [side, side, 3]."""
    with Image.open(ASTRONAUT) as image:
        return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.LANCZOS))


def people() -> dict[str, np.ndarray]:
    """Photographs of two people by `<folder>/<file>`; empty where they are not."""
    found = {}
    for path in sorted(PEOPLE.glob("*/*.[jp][pn]*g")):
        with Image.open(path) as image:
            found[f"{path.parent.name}/{path.name}"] = np.asarray(image.convert("RGB"))
    return found
