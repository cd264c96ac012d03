"""Composition and merging against plain loops over rows."""

import pytest
import torch

from pm.config import from_mapping
from pm.errors import ConfigError, RequestError
from pm.model.compose.base import ComposeChoice
from pm.model.merge import class_features, insert_tokens, repeat_class_tokens, replace_tokens
from pm.model.ragged import pad_ragged, row_of_each, slot_of_each

COUNTS, INDEX = (2, 1, 4), (3, 0, 5)
L, D = 7, 6


@pytest.fixture
def ragged():
    generator = torch.Generator().manual_seed(0)
    text = torch.randn(3, L, D, generator=generator)
    return text, torch.tensor(INDEX), torch.randn(sum(COUNTS), D, generator=generator), torch.tensor(COUNTS)


def test_ragged_helpers():
    counts = torch.tensor(COUNTS)
    assert row_of_each(counts, 7).tolist() == [0, 0, 1, 2, 2, 2, 2]
    assert slot_of_each(counts, 7).tolist() == [0, 1, 0, 0, 1, 2, 3]
    padded = pad_ragged(torch.arange(1.0, 8)[:, None], counts, 4)[..., 0]
    assert padded.tolist() == [[1, 2, 0, 0], [3, 0, 0, 0], [4, 5, 6, 7]]


def test_insert_is_equation_1_and_2(ragged):
    text, index, tokens, counts = ragged
    before = text.clone()
    merged, mask = insert_tokens(text, index, tokens, counts)
    assert merged.shape == (3, L + 3, D) and torch.equal(text, before)
    for b, (row, k, n) in enumerate(zip(tokens.split(COUNTS), INDEX, COUNTS, strict=True)):
        expected = torch.cat([text[b, :k], row, text[b, k + 1 :]])
        assert mask[b].tolist() == [True] * (L + n - 1) + [False] * (4 - n)
        assert torch.equal(merged[b, : L + n - 1], expected)
        assert merged[b, L + n - 1 :].abs().sum() == 0


def test_insert_of_one_image_replaces_exactly_one_token(ragged):
    text, index, tokens, _ = ragged
    merged, mask = insert_tokens(text, index, tokens[:3], torch.ones(3, dtype=torch.long))
    changed = (merged != text).any(-1)
    assert merged.shape == text.shape and mask.all()
    assert changed.nonzero().tolist() == [[b, k] for b, k in enumerate(INDEX)]


def test_replace_changes_only_the_repeated_positions(ragged):
    text, _, tokens, counts = ragged
    index = torch.tensor([3, 0, 2])
    merged = replace_tokens(text, index, tokens, counts)
    for b, (row, k, n) in enumerate(zip(tokens.split(COUNTS), index.tolist(), COUNTS, strict=True)):
        assert torch.equal(merged[b], torch.cat([text[b, :k], row, text[b, k + n :]]))


def test_class_features_shared_or_at_their_own_position(ragged):
    text, _, _, counts = ragged
    index = torch.tensor([3, 0, 2])
    shared = class_features(text, index, counts, 7, repeated=False)
    own = class_features(text, index, counts, 7, repeated=True)
    assert torch.equal(shared[3:], text[2, 2].expand(4, -1))
    assert torch.equal(own[3:], text[2, 2:6])


def test_gradients_reach_every_token_and_the_text(ragged):
    text, index, tokens, counts = ragged
    text.requires_grad_(True), tokens.requires_grad_(True)
    insert_tokens(text, index, tokens, counts)[0].sum().backward()
    assert torch.equal(tokens.grad, torch.ones_like(tokens))
    replaced = torch.zeros(3, L, dtype=torch.bool)
    replaced[torch.arange(3), index] = True
    assert torch.equal(text.grad, (~replaced)[..., None].expand(-1, -1, D).float())


EOS, PAD = 99, 0


def _ids(*rows):
    return torch.tensor([[*row, EOS] + [PAD] * (9 - len(row)) for row in rows])


def test_repeat_expands_the_class_token_before_encoding():
    ids = _ids([98, 5, 6, 7], [98, 5])
    repeated = repeat_class_tokens(ids, torch.tensor([2, 1]), torch.tensor([3, 1]), EOS)
    assert repeated.tolist() == _ids([98, 5, 6, 6, 6, 7], [98, 5]).tolist()
    assert ids.tolist() == _ids([98, 5, 6, 7], [98, 5]).tolist()


def test_repeat_refuses_or_cuts_what_gets_too_long():
    ids = _ids([98, 1, 2, 3, 4, 5, 6])
    index, counts = torch.tensor([2]), torch.tensor([4])
    with pytest.raises(RequestError, match="11 tokens .* at most 10 fit"):
        repeat_class_tokens(ids, index, counts, EOS)
    cut = repeat_class_tokens(ids, index, counts, EOS, truncate=True)
    assert cut.tolist() == [[98, 1, 2, 2, 2, 2, 3, 4, 5, EOS]]
    with pytest.raises(RequestError, match="leaves no room"):
        repeat_class_tokens(ids, torch.tensor([6]), counts, EOS, truncate=True)


@pytest.mark.parametrize("kind", ["stacked", "average", "linear"])
def test_compose_of_a_batch_is_that_of_its_rows(ragged, kind):
    _, _, tokens, counts = ragged
    choice = from_mapping(ComposeChoice, kind)
    compose = choice.build(D, 4)
    weights = torch.rand(7, generator=torch.Generator().manual_seed(1))
    together, strength = compose(tokens, counts, weights)
    singly = [
        compose(t, torch.tensor([len(t)]), w) for t, w in zip(tokens.split(COUNTS), weights.split(COUNTS), strict=True)
    ]
    torch.testing.assert_close(together, torch.cat([t for t, _ in singly]))
    torch.testing.assert_close(strength, torch.cat([s for _, s in singly]))
    assert choice.tokens_of_each(counts).tolist() == [len(t) for t, _ in singly] == [choice.tokens(n) for n in COUNTS]
    assert choice.tokens(sum(COUNTS), len(COUNTS)) == len(together)


@pytest.mark.parametrize("kind", ["average", "linear"])
def test_one_token_compositions_start_at_the_mean(ragged, kind):
    _, _, tokens, counts = ragged
    out, strength = from_mapping(ComposeChoice, kind).build(D, 4)(tokens, counts, torch.ones(7))
    torch.testing.assert_close(out, torch.stack([t.mean(0) for t in tokens.split(COUNTS)]))
    assert strength.tolist() == [1, 1, 1]
    out, strength = from_mapping(ComposeChoice, kind).build(D, 4)(tokens, counts, torch.tensor([0.0, 2, 0, 1, 1, 1, 1]))
    torch.testing.assert_close(out[0], tokens[1])
    assert strength.tolist() == [1, 0, 1]


def test_unknown_composition():
    with pytest.raises(ConfigError, match="compose='sum' is not one of average, linear, stacked; a part of your own"):
        from_mapping(ComposeChoice, "sum")
