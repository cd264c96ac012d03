"""Folders of people with photographs, as `suite=photos` reads them."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from support.faces import PEOPLE, astronaut


def write_people(root: Path) -> Path:
    """Two people with three photographs or more each: real ones where this machine has them.

    Elsewhere both are of the one real face that the tests bring, one of them mirrored and in other colours.
    """
    places = sorted(p for p in PEOPLE.glob("*") if p.is_dir())
    if len(places) >= 2:
        for place in places[:2]:
            shutil.copytree(place, root / place.name)
        return root
    photo = astronaut(600)  # faces of less than 80 px are refused
    for person, pixels in {"ada_woman": photo, "ben_man": np.roll(photo[:, ::-1], 1, axis=2)}.items():
        (root / person).mkdir(parents=True)
        for i, cut in enumerate((0, 20, 40)):
            Image.fromarray(np.ascontiguousarray(pixels[cut:, cut:])).save(root / person / f"{i}.png")
    return root
