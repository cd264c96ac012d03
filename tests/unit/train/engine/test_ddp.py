"""One update against torch's own AdamW."""

import pytest
import torch
from support.loops import Batches, make_step, make_trainer
from support.training import random_batch, rows
from torch import nn


def test_one_update_is_adamw_on_the_clipped_mean_gradient(tmp_path):
    trainer = make_trainer(tmp_path, grad_clip=0.01, weight_decay=0.1, warmup_steps=2)
    reference = make_step()
    model = reference.photomaker
    optimizer = torch.optim.AdamW(
        [{"params": [model.trained.weight], "lr": 0.5e-2}, {"params": [model.trained.bias], "lr": 0.5e-2}],
        weight_decay=0.1,
    )
    reference(random_batch(4, seed=4)).mean().backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), 0.01)
    optimizer.step()
    trainer._update()
    got = trainer.engine.gather_trainable()
    torch.testing.assert_close(got["photomaker.trained.weight"], model.trained.weight.data)
    torch.testing.assert_close(got["photomaker.trained.bias"], model.trained.bias.data)
    assert float(trainer._meter._norm) == pytest.approx(float(norm))
    assert norm > 0.01  # or nothing was clipped


def test_micro_batches_add_up_to_the_batch(tmp_path):
    class Halves(Batches):
        def __next__(self):
            start = self.consumed % 4
            whole = random_batch(4, seed=self.consumed - start + 4)
            self.consumed += 2
            return rows(whole, range(start, start + 2))

    whole, halves = make_trainer(tmp_path / "a"), make_trainer(tmp_path / "b", micro_batch_size=2, batches=Halves(2))
    whole._update()
    halves._update()
    for name, value in whole.engine.gather_trainable().items():
        torch.testing.assert_close(halves.engine.gather_trainable()[name], value)
