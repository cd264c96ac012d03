"""Texts and identities of requests, each encoded, to what the U-Net is told."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pm.model.conditioning import Conditioning, TextFeatures
from pm.model.long_text import Encoded
from pm.model.prompt import Place, Prompt
from pm.model.regions import Regions
from pm.sample.adapters import Adapter
from pm.sample.people import everyone, localised
from pm.sample.request import Request


@dataclass(frozen=True)
class Asked:
    """A request, and what its parts were made into."""

    text: Encoded
    plain: Encoded  # the text-only twin
    prompt: Prompt
    request: Request
    embeds: Sequence[Tensor]  # of each person's photos, [N, ...]

    @property
    def alone(self) -> bool:
        """Whether it fits no call with others: it names people more than once, or each at their place."""
        return len(self.text.places) > 1 or localised(self.request)

    def place(self, number: int) -> Place:
        """A place of a person in the prompt; where the caller made the text, its only one."""
        return self.prompt.places[number] if self.prompt.places else Place((0, 0))


def alike(asked: Sequence[Asked]) -> list[list[int]]:
    """Requests that fit one call: texts of one length."""
    groups: dict[tuple, list[int]] = {}
    for i, each in enumerate(asked):
        lengths = (each.text.text.embeds.shape[1], each.plain.text.embeds.shape[1])
        groups.setdefault((*lengths, i if each.alone else None), []).append(i)
    return list(groups.values())


def merged(adapter: Adapter, asked: Sequence[Asked]) -> Conditioning:
    """Conditioning of B requests with texts of one length: at each place of a person, the last one first, since what
    is put in moves what comes after."""
    device, requests = asked[0].embeds[0].device, [each.request for each in asked]
    text, twin = _stacked([each.text for each in asked]), _stacked([each.plain for each in asked])
    owner = torch.zeros(text.embeds.shape[:2], dtype=torch.int8, device=device)
    for n in reversed(range(max(1, len(asked[0].text.places)))):
        named = [each.place(n) for each in asked]
        people = [everyone(r)[place.person - 1] for r, place in zip(requests, named, strict=True)]
        counts = torch.tensor([person.references for person in people], device=device)
        index = torch.tensor([each.text.places[n] if each.text.places else 0 for each in asked], device=device)
        strengths = [r.id_strength * place.strength for r, place in zip(requests, named, strict=True)]
        scales = [(1.0 if r.scale is None else r.scale) * s for r, s in zip(requests, strengths, strict=True)]
        pairs = zip(people, strengths, strict=True)
        weights = [w * strength for p, strength in pairs for w in (p.weights or [1.0] * p.references)]
        conditioning = adapter.conditioner.condition(
            text,
            index,
            None,
            counts,
            torch.zeros(len(requests), 0, device=device),
            weights=None if all(w == 1 for w in weights) else torch.tensor(weights, device=device),
            plain=twin,
            id_embeds=torch.cat([each.embeds[p.person - 1] for each, p in zip(asked, named, strict=True)]),
            scale=torch.tensor(scales, device=device),
        )
        text = TextFeatures(conditioning.embeds, conditioning.pooled)
        owner = adapter.conditioner.owner_of_each(owner, index, counts, named[0].person)
    if not localised(requests[0]):
        return conditioning
    return replace(conditioning, regions=_regions(owner, asked[0]))


def _regions(owner: Tensor, asked: Asked) -> Regions:
    """Of one request; where its people are is not known yet."""
    plain = torch.zeros(asked.plain.text.embeds.shape[:2], dtype=torch.int8, device=owner.device)
    for at, place in zip(asked.plain.places, asked.prompt.places, strict=True):
        plain[:, at] = place.person
    return Regions(owner, plain, torch.zeros(1, len(everyone(asked.request)), 1, 1, dtype=torch.bool))


def _stacked(encoded: Sequence[Encoded]) -> TextFeatures:
    parts = [each.text for each in encoded]
    return TextFeatures(torch.cat([p.embeds for p in parts]), torch.cat([p.pooled for p in parts]))
