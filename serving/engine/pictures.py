"""From a job's pictures to a request of `pm.sample`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from PIL import Image

from pm.model.families.base import BaseShapes
from pm.sample import Request
from pm.sample.controls import ControlImage, control_notes
from pm.sample.pictures import PromptImages, notes_of, size_of
from serving.engine.people import about_people
from serving.jobs import CONTROL, IMAGE, MASK, PROMPT, Job, Photo

# The vocabulary of the IPTC for pictures that a model has made; viewers and platforms look for it.
XMP_PACKET = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" Iptc4xmpExt:DigitalSourceType='
    '"http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/></rdf:RDF></x:xmpmeta>'
)


def pictures_of(job: Job, photos: Sequence[Photo]) -> dict[str, Any]:
    """Fields of `Request` for what a job brings besides ID photos."""
    found = {use: [Image.fromarray(photo.pixels) for photo in photos if photo.use == use] for use in _USES}
    controls = [
        ControlImage(
            image=image,
            name=each.name,
            scale=each.scale,
            start=each.start,
            end=each.end,
            preprocess=each.preprocess,
        )
        for image, each in zip(found[CONTROL], job.controls, strict=True)
    ]
    prompt = PromptImages(found[PROMPT], job.prompt_scale, job.prompt_model) if found[PROMPT] else None
    return {
        "image": next(iter(found[IMAGE]), None),
        "mask_image": next(iter(found[MASK]), None),
        "strength": job.strength,
        "controls": controls,
        "image_prompt": prompt,
    }


def sized(request: Request, shapes: BaseShapes, most: int) -> tuple[Request, list[str]]:
    """With the size of its picture where it says none, at most `most` pixels a side; and notes for the client."""
    if request.image is not None:
        width, height = size_of(request, shapes, most)
        request = replace(request, width=width, height=height)
    size = size_of(request, shapes)
    return request, [*notes_of(request, size), *control_notes(request.controls, size)]


def about_pictures(job: Job, photos: Sequence[Photo]) -> dict[str, object]:
    """What a PNG says of its pictures."""
    uses = [photo.use for photo in photos]
    found = about_people(job)
    if IMAGE in uses:
        found["strength"] = "default" if job.strength is None else job.strength
        found["masked"] = MASK in uses
    if job.controls:
        found["controls"] = ", ".join(f"{each.name} ({each.scale:g})" for each in job.controls)
    return found


_USES = (IMAGE, MASK, CONTROL, PROMPT)
