"""Engine, loop and checkpoints on a model of one layer, without Ray."""

import json

import pytest
import torch
from support.loops import Batches, assert_same, make_step, make_trainer, resume
from support.training import TinyModel, random_batch, rows
from torch import nn

from pm.errors import CheckpointError, ConfigError
from pm.train.callbacks.base import Callback
from pm.train.callbacks.metrics import MetricsFile, read_metrics
from pm.train.callbacks.progress import Progress
from pm.train.checkpoint import is_complete, newest_complete, read_checkpoint, restore_rng, write_rng
from pm.train.diffusion import noise_schedule
from pm.train.ema import MovingAverage
from pm.train.engine.base import load_weights, named_trainable, weights_replaced
from pm.train.losses.uniform import Uniform
from pm.train.run.context import LocalContext
from pm.train.run.summary import CHECKPOINTS
from pm.train.step import Precision, TrainStep, choose_precision, train_in_float32


def test_loss_of_a_batch_is_that_of_its_rows():
    step, batch = make_step(), random_batch(5)
    together = step(batch)
    singles = [rows(batch, [i]) for i in range(5)]
    torch.testing.assert_close(together, torch.cat([step(single) for single in singles]))
    assert together.shape == (5,) and together.dtype == torch.float32


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


@pytest.mark.parametrize("interrupted_at", [3, 5])
def test_interrupted_equals_uninterrupted(tmp_path, interrupted_at):
    straight = make_trainer(tmp_path / "straight", [MetricsFile(tmp_path / "straight")])
    straight.fit()

    class Crash(Callback):
        def on_step(self, step):
            if step == interrupted_at:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path / "cut", [MetricsFile(tmp_path / "cut"), Crash()], checkpoint_every=2).fit()
    trainer = resume(tmp_path / "cut", [MetricsFile(tmp_path / "cut")], checkpoint_every=2)
    assert trainer.step == interrupted_at - 1  # the last even step
    trainer.fit()
    assert_same(trainer.engine.gather_trainable(), straight.engine.gather_trainable())
    assert_same(trainer.ema.gather(), straight.ema.gather())
    for key in ("exp_avg", "exp_avg_sq"):
        assert_same(trainer.engine.state_dict().moments[key], straight.engine.state_dict().moments[key])
    lines = [read_metrics(tmp_path / run / "metrics.jsonl") for run in ("straight", "cut")]
    assert [m["step"] for m in lines[1]] == [1, 2, 3, 4, 5, 6]  # no line twice
    assert [m["loss"] for m in lines[0]] == [m["loss"] for m in lines[1]]


def test_more_steps_go_on_from_the_last_checkpoint(tmp_path):
    make_trainer(tmp_path / "a", steps=3, checkpoint_every=None).fit()
    longer = resume(tmp_path / "a", steps=6, checkpoint_every=None)
    longer.fit()
    straight = make_trainer(tmp_path / "b")
    straight.fit()
    assert_same(longer.engine.gather_trainable(), straight.engine.gather_trainable())


def test_checkpoints_hold_no_frozen_weight_and_old_ones_go(tmp_path):
    make_trainer(tmp_path, checkpoint_every=1, num_to_keep=2).fit()
    folders = sorted((tmp_path / CHECKPOINTS).iterdir())
    assert [f.name for f in folders] == ["step-00000005", "step-00000006"]
    saved = read_checkpoint(folders[-1])
    assert set(saved.engine.weights) == {"photomaker.trained.weight", "photomaker.trained.bias"} == set(saved.ema)
    assert saved.position.step == saved.position.updates == 6 and saved.position.consumed == 24


def test_damaged_checkpoints_are_named_and_passed_over(tmp_path):
    make_trainer(tmp_path, checkpoint_every=3, num_to_keep=None).fit()
    root = tmp_path / CHECKPOINTS
    assert newest_complete(root).name == "step-00000006"
    tensors = root / "step-00000006" / "state.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-10])
    assert not is_complete(root / "step-00000006") and newest_complete(root).name == "step-00000003"
    with pytest.raises(CheckpointError, match="step-00000006 cannot be read"):
        read_checkpoint(root / "step-00000006")


def test_a_checkpoint_of_another_shape_is_refused(tmp_path):
    make_trainer(tmp_path).fit()
    weights = read_checkpoint(LocalContext(tmp_path).restore()).engine.weights
    weights["photomaker.trained.bias"] = torch.zeros(7)
    with pytest.raises(CheckpointError, match="1 parameters differ, e.g. 'photomaker.trained.bias'"):
        load_weights(make_step(), weights)


def test_random_generators_come_back(tmp_path):
    import random

    import numpy as np

    torch.manual_seed(1), np.random.seed(2), random.seed(3)
    draws = lambda: [torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random(), random.gauss(0, 1)]  # noqa: E731
    draws()
    write_rng(tmp_path, 0)
    expected = draws()
    draws()
    assert restore_rng(tmp_path, 0) and draws() == expected
    assert not restore_rng(tmp_path, 1)  # saved by fewer workers


def test_a_loss_that_is_no_number_stops_the_run_before_it_is_saved(tmp_path):
    class Bad(Batches):
        def __next__(self):
            batch = super().__next__()
            if self.consumed == 5 * self.size:
                batch.mean[0] = float("nan")
            return batch

    trainer = make_trainer(tmp_path, batches=Bad(), log_every=100, checkpoint_every=3)
    with pytest.raises(ConfigError, match="loss is nan at step 6; lower train.lr_lora"):
        trainer.fit()
    assert newest_complete(tmp_path / CHECKPOINTS).name == "step-00000003"


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


def test_weights_are_replaced_for_a_while_only(tmp_path):
    trainer = make_trainer(tmp_path)
    own = trainer.engine.gather_trainable()
    other = {name: value + 1 for name, value in own.items()}
    with pytest.raises(RuntimeError), weights_replaced(trainer.engine, other):
        assert_same({n: p.data for n, p in named_trainable(trainer.engine.module).items()}, other)
        raise RuntimeError
    assert_same(trainer.engine.gather_trainable(), own)


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


def test_progress_file_says_where_the_run_is(tmp_path):
    progress = Progress(tmp_path, every_seconds=0)
    progress.phase("loading the base model")
    read = lambda: json.loads((tmp_path / ".progress.json").read_text())  # noqa: E731
    assert read() == {"phase": "loading the base model"}
    make_trainer(tmp_path, [progress]).fit()
    state = read()
    assert (state["step"], state["steps"], state["start"]) == (6, 6, 0) and state["loss"] > 0


def test_a_metrics_line_that_was_cut_off_is_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0}\n{"step": 2, "lo')
    MetricsFile(tmp_path).on_start(1, 6)
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": 1.0}]
