"""The recogniser that losses use: it learns to tell people apart, and is not the probe."""

import pytest
import torch

from pm.errors import CheckpointError
from pm.toon.corpus import render_corpus
from pm.toon.identities import identities
from pm.toon.pretrain.recogniser import told_apart, train_recogniser
from pm.toon.recogniser import Recogniser, load_recogniser, save_recogniser


def test_it_learns_to_find_a_person_by_another_photo_and_is_read_as_it_was_written(tmp_path):
    corpus = render_corpus(identities(12, 0, "train"), 2, 0, 64)
    recogniser = train_recogniser(corpus, 2, 40, tmp_path, people=12)
    untrained = Recogniser().eval()
    assert told_apart(recogniser, corpus, 2) > max(0.4, told_apart(untrained, corpus, 2))
    save_recogniser(recogniser, tmp_path / "r.safetensors")
    again, pixels = load_recogniser(tmp_path / "r.safetensors"), torch.rand(2, 3, 48, 48)
    with torch.no_grad():
        torch.testing.assert_close(again(pixels), recogniser(pixels), atol=5e-3, rtol=0)
        torch.testing.assert_close(again(pixels).norm(dim=1), torch.ones(2))
    assert not any(parameter.requires_grad for parameter in again.parameters())


def test_another_file_is_refused(tmp_path):
    from pm.resources import resource

    with pytest.raises(CheckpointError, match="is no toon recogniser"):
        load_recogniser(resource("assets/toon/probe.safetensors"))
