"""Which positions see whose tokens: masks of attention, and places found from attention."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pm.model.conditioning import Conditioning, TextFeatures
from pm.model.image_prompt import ImageAttention
from pm.model.merge import owner_of_each
from pm.model.regions import HIDDEN, Regions, Watch, found_places, layer_size, shrunk

L, D = 6, 4


def halves(height=4, width=8) -> torch.Tensor:
    maps = torch.zeros(1, 2, height, width, dtype=torch.bool)
    maps[:, 0, :, : width // 2], maps[:, 1, :, width // 2 :] = True, True
    return maps


def regions(owner=(0, 1, 1, 0, 2, 0), maps=None) -> Regions:
    plain = torch.tensor([[0, 1, 0, 2, 0, 0]], dtype=torch.int8)
    return Regions(torch.tensor([owner], dtype=torch.int8), plain, halves() if maps is None else maps)


def conditioning(length=L, seed=0, places: Regions | None = None) -> Conditioning:
    generator = torch.Generator().manual_seed(seed)
    text = TextFeatures(torch.randn(1, length, D, generator=generator), torch.randn(1, 2, generator=generator))
    made = Conditioning.from_text(text, torch.zeros(1, 6))
    return Conditioning(**{**vars(made), "regions": places})


@pytest.mark.parametrize(("positions", "size"), [(32, (4, 8)), (8, (2, 4)), (2, (1, 2))])
def test_a_position_sees_the_tokens_of_nobody_and_of_its_own_person(positions, size):
    bias = regions().bias(positions, torch.zeros(1))
    assert bias.shape == (1, 1, positions, L) and set(bias.unique().tolist()) == {0.0, HIDDEN}
    seen = (bias[0, 0] == 0).unflatten(0, size)
    assert seen[..., [0, 3, 5]].all()
    half = size[1] // 2
    assert seen[:, :half, 1:3].all() and not seen[:, half:, 1:3].any()
    assert seen[:, half:, 4].all() and not seen[:, :half, 4].any()


def test_layers_of_odd_latents_are_halved_upwards():
    assert [layer_size((5, 9), n) for n in (45, 15, 6)] == [(5, 9), (3, 5), (2, 3)]
    with pytest.raises(ValueError, match="no layer"):
        layer_size((5, 9), 44)


def test_small_maps_stay_disjoint_and_go_to_whoever_has_most():
    maps = torch.zeros(1, 2, 4, 4, dtype=torch.bool)
    maps[0, 0, :, 0], maps[0, 1, :, 1], maps[0, 1, :2, 2:] = True, True, True
    small = shrunk(maps, (2, 2))[0]
    assert small[0].tolist() == [[True, False], [True, False]]  # half of it each: the first
    assert small[1].tolist() == [[False, True], [False, False]]


def test_stacked_padded_selected_and_trimmed_with_their_rows():
    third = torch.zeros(1, 3, 4, 8, dtype=torch.bool)
    third[0, 2] = True
    items = [
        conditioning(),
        conditioning(places=regions()),
        conditioning(L + 2, 1, regions((0, 3, 0, 0, 0, 1, 2, 0), third)),
    ]
    both = Conditioning.concat(items)
    assert both.regions.owner.shape == (3, L + 2) and both.regions.maps.shape == (3, 3, 4, 8)
    assert not both.regions.owner[0].any() and (both.regions.bias(32, torch.zeros(1))[0] == 0).all()
    for i, item in enumerate(items[1:], 1):
        own = both.rows([i]).trimmed().regions
        people = item.regions.maps.shape[1]
        assert torch.equal(own.owner, item.regions.owner) and torch.equal(own.maps[:, :people], item.regions.maps)
        cut = both.regions.bias(8, torch.zeros(1))[i, ..., : own.owner.shape[1]]
        assert torch.equal(cut, item.regions.bias(8, torch.zeros(1))[0])
    dropped = both.regions.without(torch.tensor([False, True, False]))
    assert dropped.owner.any(1).tolist() == [False, False, True]
    assert both.regions.of_text().owner.equal(both.regions.text_owner)
    assert Conditioning.concat([conditioning(), conditioning()]).regions is None


def test_owners_follow_the_merge_from_the_last_place_to_the_first():
    owner, counts = torch.zeros(1, 7, dtype=torch.int8), torch.tensor([2])
    for repeated, first, expected in ((False, 5, [0, 0, 1, 1, 0, 0, 2, 2, 0]), (True, 4, [0, 1, 1, 0, 2, 2, 0])):
        found = owner_of_each(owner, torch.tensor([first]), counts, 2, repeated)
        found = owner_of_each(found, torch.tensor([1 if repeated else 2]), counts, 1, repeated)
        assert found[0].tolist() == expected


def attention() -> SimpleNamespace:
    """What a processor asks of a layer."""
    torch.manual_seed(0)
    maps = {name: nn.Linear(D, D, bias=False) for name in ("to_q", "to_k", "to_v")}
    return SimpleNamespace(
        **maps, heads=2, scale=(D // 2) ** -0.5, to_out=[nn.Identity(), nn.Identity()],
        residual_connection=False, rescale_output_factor=1.0,
    )  # fmt: skip


def test_another_persons_photo_changes_nothing_outside_their_place():
    """The same layer, with tokens of person 2 exchanged: the left half is the same to the last bit."""
    layer, image, text = attention(), torch.randn(1, 32, D), torch.randn(1, L, D)
    other = text.clone()
    other[:, 4] += 3
    attend, places = ImageAttention(0), regions()
    one, two = (attend(layer, image, t, ip_adapter_masks=places).view(4, 8, D) for t in (text, other))
    assert torch.equal(one[:, :4], two[:, :4]) and ((one - two)[:, 4:].abs().amax(-1) > 1e-4).all()
    free = attend(layer, image, text)
    everywhere = regions(maps=torch.ones(1, 1, 4, 8, dtype=torch.bool), owner=(0, 1, 1, 0, 0, 0))
    torch.testing.assert_close(attend(layer, image, text, ip_adapter_masks=everywhere), free)


def test_people_are_found_where_their_words_are_looked_at():
    """A layer whose queries in the left half point at the first word's key, in the right half at the second's."""
    owner = torch.tensor([0, 1, 0, 2, 0, 0], dtype=torch.int8)
    key = torch.eye(L)[None, None] * 9
    at = torch.where(halves()[0, 0].flatten(), 1, 3)
    given = torch.zeros(2, 4, 8)
    Watch(0, owner, given).see(torch.eye(L)[at][None, None], key, None, 1.0)
    assert torch.equal(found_places(given), halves()[0])
    # Only where a word is looked at more than elsewhere counts, not how much in all.
    assert torch.equal(found_places(given * torch.tensor([1.0, 100.0]).view(2, 1, 1)), halves()[0])
