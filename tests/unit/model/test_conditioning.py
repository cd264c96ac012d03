"""Padding, stacking and selecting conditioning."""

import torch

from pm.model.conditioning import Conditioning, TextFeatures


def _text(rows: int, seed: int = 0) -> Conditioning:
    generator = torch.Generator().manual_seed(seed)
    text = TextFeatures(torch.randn(rows, 5, 3, generator=generator), torch.randn(rows, 2, generator=generator))
    return Conditioning.from_text(text, torch.full((rows, 6), 1024.0))


def test_concat_pads_and_rows_trimmed_gives_the_parts_back():
    short, long = _text(1), _text(2, seed=1).padded(8)
    long = Conditioning(
        long.embeds, torch.ones_like(long.mask), long.pooled, long.time_ids, long.text_embeds, long.text_pooled
    )
    both = Conditioning.concat([short, long])
    assert both.embeds.shape == (3, 8, 3) and len(both) == 3
    assert both.mask.sum(1).tolist() == [5, 8, 8]
    first = both.rows(slice(0, 1)).trimmed()
    assert torch.equal(first.embeds, short.embeds) and first.mask.all()
    assert torch.equal(both.rows([1, 2]).embeds, long.embeds)


def test_to_casts_features_but_not_time_ids():
    moved = _text(1).to("cpu", torch.bfloat16)
    assert moved.embeds.dtype == moved.pooled.dtype == moved.text_embeds.dtype == torch.bfloat16
    assert moved.mask.dtype == torch.bool
    moved.time_ids[0, 0] = 1025.0
    assert moved.time_ids[0, 0] == 1025.0
