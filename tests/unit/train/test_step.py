"""A batch to a loss, on a model of one layer."""

import torch
from support.loops import make_step
from support.training import TinyModel, random_batch, rows

from pm.train.diffusion import noise_schedule
from pm.train.losses.uniform import Uniform
from pm.train.step import Precision, TrainStep, choose_precision, train_in_float32


def test_loss_of_a_batch_is_that_of_its_rows():
    step, batch = make_step(), random_batch(5)
    together = step(batch)
    singles = [rows(batch, [i]) for i in range(5)]
    torch.testing.assert_close(together, torch.cat([step(single) for single in singles]))
    assert together.shape == (5,) and together.dtype == torch.float32


def test_trained_weights_are_float32_in_every_precision():
    model = TinyModel().bfloat16()
    train_in_float32(model)
    assert model.trained.weight.dtype is torch.float32 and model.frozen.weight.dtype is torch.bfloat16
    step = TrainStep(model, noise_schedule({}), 0.5, Precision(torch.bfloat16), Uniform("uniform"))
    loss = step(random_batch(3))
    assert loss.dtype is torch.float32
    loss.mean().backward()
    assert model.trained.weight.grad.dtype is torch.float32
    torch.testing.assert_close(loss, make_step_plain()(random_batch(3)), rtol=0.05, atol=0.02)
    assert choose_precision("auto", torch.device("cpu")).dtype is torch.float32


def make_step_plain():
    return TrainStep(TinyModel(), noise_schedule({}), 0.5, Precision(torch.float32), Uniform("uniform"))
