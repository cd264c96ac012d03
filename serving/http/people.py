"""Several people of a request: whose photos, and where each of them is."""

import json
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from serving.errors import invalid
from serving.jobs import PersonJob


class PersonFields(BaseModel):
    """One entry of `people`."""

    model_config = ConfigDict(extra="forbid")

    photos: int = Field(1, ge=1, description="How many of image[], in their order, show this person.")
    box: str | list[float] | None = Field(
        None,
        description="Where the person is: left, top, right, bottom in pixels or shares of the picture; or a word: "
        "left, middle, right, top, bottom.",
    )


# Written out: the API's description has no place for definitions beside its fields.
People = Annotated[
    list[PersonFields] | None, WithJsonSchema({"type": "array", "items": PersonFields.model_json_schema()})
]


def read_people(value: Any) -> Any:
    """The entries of a form's field, which are JSON; for pydantic, which checks them.

    Raises:
        ValueError: it is no JSON list.
    """
    if not isinstance(value, str):
        return value
    try:
        found = json.loads(value)
    except ValueError:
        found = None
    if not isinstance(found, list):
        raise ValueError('it is no JSON list; write [{"photos": 2, "box": "left"}, {"box": "right"}]')
    return found


def person_jobs(people: Sequence[PersonFields] | None, photos: int, regions: int) -> tuple[PersonJob, ...]:
    """The people of a request with so many ID photos, and pictures of regions.

    Raises:
        ApiError: there are not so many photos, or not a region for each.
    """
    if people is None:
        if regions:
            raise invalid("region[] says where several people are; send people, too", "region")
        return ()
    if not people:
        raise invalid("people is empty; give an entry for each person, or leave it out", "people")
    asked = sum(person.photos for person in people)
    if asked != photos:
        problem = f"people have {asked} photos together, and {photos} image[] came"
        raise invalid(f"{problem}; say how many photos each has", "people")
    if regions and regions != len(people):
        raise invalid(f"{regions} region[] given for {len(people)} people; give one for each", "region")
    return tuple(PersonJob(p.photos, tuple(p.box) if isinstance(p.box, list) else p.box) for p in people)
