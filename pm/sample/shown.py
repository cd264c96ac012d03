"""What the U-Net is told of a row in steps that do not see its identity, and in the other half of guidance."""

from dataclasses import replace
from typing import TYPE_CHECKING

from pm.model.conditioning import Conditioning, TextFeatures

if TYPE_CHECKING:
    from pm.sample.row import Row


def text_only(row: "Row") -> Conditioning:
    """The text alone; the words for people act where these are, as far as that is known."""
    known = row.conditioning
    twin = TextFeatures(known.text_embeds, known.text_pooled)
    regions = None if known.regions is None or row.find_people else known.regions.of_text()
    return replace(Conditioning.from_text(twin, known.time_ids), image=known.image, regions=regions)


def unconditional(row: "Row") -> Conditioning:
    """What guidance moves away from. An image prompt is not the identity, and acts from the first step on."""
    told = row.conditioning.time_ids if row.negative_time_ids is None else row.negative_time_ids
    found = Conditioning.from_text(row.negative, told)
    if row.null_image is None or row.conditioning.image is None:
        return found
    return found.with_image(replace(row.null_image, scale=row.conditioning.image.scale))
