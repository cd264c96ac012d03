"""Weights and chunks against what others do: the rules of ComfyUI and of compel, written here from their descriptions.

ComfyUI (`comfy/sd1_clip.py`) encodes the empty prompt beside all chunks and moves every weighted token from it:
z0 + w (z - z0). compel does so for weights of 1 and more. Where compel is installed, its own code is the reference.
"""

import pytest
import torch
from support.prompts import encode_prompts

from pm.model.base import load_base

FRAGMENTS = [("a photo of a", 1.0), ("red shirt", 1.3), ("in a", 1.0), ("blue hoodie", 1.7), ("smiling " * 80, 1.0)]


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(tiny_base, ("text",))


def chunked(tokenizer, fragments):
    """Token ids and weights in chunks of 75 with start and end tokens, one token at a time."""
    flat = [(i, w) for text, w in fragments for i in tokenizer(text, add_special_tokens=False).input_ids]
    for start in range(0, len(flat), 75):
        part = flat[start : start + 75]
        pad = tokenizer.model_max_length - 2 - len(part)
        ids = [tokenizer.bos_token_id, *(i for i, _ in part), tokenizer.eos_token_id] + [tokenizer.pad_token_id] * pad
        yield ids, [1.0, *(w for _, w in part), 1.0] + [1.0] * pad


def comfy(tokenizer, encoder, fragments):
    """Penultimate states [1, K L, W] of one text encoder."""

    def states(ids):
        return encoder(torch.tensor([ids]), output_hidden_states=True).hidden_states[-2][0]

    empty = tokenizer("", padding="max_length", max_length=tokenizer.model_max_length).input_ids
    parts = []
    for ids, weights in chunked(tokenizer, fragments):
        z, z0 = states(ids), states(empty)
        for i, weight in enumerate(weights):
            if weight != 1.0:
                z[i] = (z[i] - z0[i]) * weight + z0[i]
        parts.append(z)
    return torch.cat(parts)[None]


def written(fragments) -> str:
    return " ".join(text if weight == 1 else f"({text}:{weight})" for text, weight in fragments)


@torch.no_grad()
@pytest.mark.parametrize("weights", [(1.3, 1.7), (0.5, 1.2), (0.0, 0.9)])
def test_the_rule_of_comfyui(base, weights):
    fragments = [FRAGMENTS[0], ("red shirt", weights[0]), FRAGMENTS[2], ("blue hoodie", weights[1]), FRAGMENTS[4]]
    expected = torch.cat(
        [comfy(t, e, fragments) for t, e in zip(base.tokenizers, base.text_encoders, strict=True)], dim=-1
    )
    torch.testing.assert_close(encode_prompts(base, [written(fragments)]).embeds, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_compel_itself(base):
    compel = pytest.importorskip("compel")
    kind = compel.ReturnedEmbeddingsType.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED
    theirs = compel.Compel(
        tokenizer=list(base.tokenizers),
        text_encoder=list(base.text_encoders),
        returned_embeddings_type=kind,
        requires_pooled=[False, True],
        truncate_long_prompts=False,
    )
    for fragments in (FRAGMENTS[:4], FRAGMENTS):
        prompt = " ".join(text if weight == 1 else f"({text}){weight}" for text, weight in fragments)
        embeds, _ = theirs(prompt)  # of the pooled text neither changes anything
        torch.testing.assert_close(encode_prompts(base, [written(fragments)]).embeds, embeds, atol=1e-5, rtol=1e-5)
