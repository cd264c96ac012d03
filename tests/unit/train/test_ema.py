"""The moving average, by its formula."""

import torch
from support.loops import assert_same, make_trainer

from pm.train.ema import MovingAverage


def test_moving_average_follows_its_formula(tmp_path):
    trainer = make_trainer(tmp_path, ema_decay=0.5)
    expected = {n: w.double() for n, w in trainer.engine.gather_trainable().items()}
    for update in range(1, 5):
        trainer._update()
        decay = min(0.5, (1 + update) / (10 + update))
        expected = {
            n: decay * expected[n] + (1 - decay) * w.double() for n, w in trainer.engine.gather_trainable().items()
        }
    for name, value in trainer.ema.gather().items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-7)
    average = MovingAverage(trainer.engine, 0.5)
    before = trainer.engine.gather_trainable()
    average.load(trainer.ema.gather())
    assert_same(average.gather(), trainer.ema.gather())
    assert_same(trainer.engine.gather_trainable(), before)  # the weights themselves did not move
