"""A learned word says to us what it says to diffusers' own loader."""

import pytest
import torch
from diffusers import DiffusionPipeline
from support.prompts import encode_prompts

from pm.model.base import load_base
from pm.model.words import LearnedWord

PROMPT = "a photo of a <person>, wearing a red hat"


@pytest.mark.parametrize("tokens", [1, 3])
@pytest.mark.parametrize("family", ["tiny_base", "tiny_sd15"])
def test_prompt_embeddings_are_those_of_diffusers(family, tokens, request):
    folder = request.getfixturevalue(family)
    base, theirs = load_base(folder, ("text",)), DiffusionPipeline.from_pretrained(folder)
    widths = [e.get_input_embeddings().embedding_dim for e in base.text_encoders]
    word = LearnedWord(tuple(torch.randn(tokens, width) for width in widths))
    for i, embeddings in enumerate(word.embeddings):
        end = "_2" if i else ""
        theirs.load_textual_inversion(
            {"<person>": embeddings},
            token="<person>",
            tokenizer=getattr(theirs, f"tokenizer{end}"),
            text_encoder=getattr(theirs, f"text_encoder{end}"),
        )
    ours = encode_prompts(base, [PROMPT], [{"<person>": word}])
    embeds, _, *pooled = theirs.encode_prompt(
        PROMPT, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    torch.testing.assert_close(ours.embeds, embeds)
    if pooled:
        torch.testing.assert_close(ours.pooled, pooled[0])
