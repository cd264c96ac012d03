"""People who are found: rows whose steps before the merge see where the words for their people are looked at."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from pm.model.conditioning import Conditioning
from pm.model.regions import Regions, Watch, found_places


def watched(rows: Sequence[Any], conditioning: Conditioning) -> Conditioning:
    """The conditioning of one step, in which the words for people are watched in rows that look for these.

    Args:
        rows: `pm.sample.row.Active`, of the first lines of the batch.
        conditioning: of all lines.
    """
    looking = [(line, active) for line, active in enumerate(rows) if active.row.find_people and not active.merged]
    if not looking:
        return conditioning
    size, device = rows[0].row.shape[1:], conditioning.embeds.device
    watches = []
    for line, active in looking:
        known = active.row.conditioning.regions
        if active.given is None:
            active.given = torch.zeros(known.maps.shape[1], *size, device=device)
        watches.append(Watch(line, known.text_owner[0], active.given))
    regions = conditioning.regions
    if regions is None:
        length, plain = conditioning.embeds.shape[1], conditioning.text_embeds.shape[1]
        regions = Regions.nowhere(len(conditioning), length, plain, size, device)
    return replace(conditioning, regions=replace(regions, watches=tuple(watches)))


def place_people(active: Any) -> None:
    """Once a row's identities are to be seen, say where each of its people was found."""
    row = active.row
    if row.find_people and active.merged and active.given is not None:
        regions = replace(row.conditioning.regions, maps=found_places(active.given)[None])
        active.row = replace(row, conditioning=replace(row.conditioning, regions=regions), find_people=False)
