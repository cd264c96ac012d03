"""People that a configuration names, as people of a request."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pm.sample.faces import face_embeds
from pm.sample.people import Person
from pm.sample.picture_config import PersonFiles
from pm.sample.picture_files import load_picture

if TYPE_CHECKING:
    from pm.sample.prepared import Photos


def people_of(files: Sequence[PersonFiles], photos: "Sequence[Photos]") -> list[Person]:
    """Each with the photos that can be used.

    Raises:
        RequestError: the file of a region cannot be read.
    """
    return [_person(number, *each) for number, each in enumerate(zip(files, photos, strict=True), 1)]


def about_people(files: Sequence[PersonFiles]) -> dict[str, object]:
    """What a picture's file says of its people, for people."""
    if not files:
        return {}
    shown = (f"{', '.join(Path(each).name for each in person.places)} ({_place(person)})" for person in files)
    return {"people": "; ".join(shown)}


def _person(number: int, files: PersonFiles, photos: "Photos") -> Person:
    faces = face_embeds(photos.references)
    return Person(
        id_images=[reference.image for reference in photos.references],
        masks=[reference.mask for reference in photos.references],
        weights=photos.weights,
        face_embeds=None if faces is None else torch.tensor(faces),
        box=files.box,
        region=None if files.region is None else load_picture(f"region of person {number}", files.region),
    )


def _place(person: PersonFiles) -> Any:
    if person.region is not None:
        return Path(person.region).name
    return "found" if person.box is None else person.box if isinstance(person.box, str) else list(person.box)
