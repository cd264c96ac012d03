"""Rows that join, leave, merge late, skip guidance, and never feel their neighbours."""

import functools
from dataclasses import replace

import pytest
import torch
from torch import nn

from pm.errors import RequestError
from pm.model.conditioning import Conditioning, TextFeatures
from pm.model.families.sdxl import StableDiffusionXL
from pm.sample.config import guided_steps
from pm.sample.row import Row
from pm.sample.sampler import Sampler
from pm.sample.schedule import Schedule

CONFIG = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
L, D, P = 5, 3, 2


class FakeUnet(nn.Module):
    """Depends on latents, time and every attended token of each row alone; keeps what it was called with."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, x, t, encoder_hidden_states, encoder_attention_mask, added_cond_kwargs, return_dict):
        self.calls.append((x.shape[0], encoder_hidden_states.shape[1], t.clone()))
        mask = encoder_attention_mask
        self.masked = mask is not None
        mask = torch.ones(encoder_hidden_states.shape[:2]) if mask is None else mask.float()
        text = (encoder_hidden_states * mask[..., None]).sum((1, 2)) + added_cond_kwargs["text_embeds"].sum(1)
        return (torch.tanh(x + text.view(-1, 1, 1, 1)) + t.view(-1, 1, 1, 1) / 1000,)


def make_row(seed=0, steps=6, tokens=L, guidance=3.0, merge_step=0, kind="ddim", eta=0.0, shape=(4, 2, 2)) -> Row:
    generator = torch.Generator().manual_seed(seed + 100)
    text = TextFeatures(torch.randn(1, L, D, generator=generator), torch.randn(1, P, generator=generator))
    plain = Conditioning.from_text(text, torch.zeros(1, 6))
    merged = torch.randn(1, tokens, D, generator=generator)
    mask = torch.ones(1, tokens, dtype=torch.bool)
    conditioning = Conditioning(merged, mask, text.pooled + 1, plain.time_ids, text.embeds, text.pooled)
    negative = TextFeatures(torch.zeros(1, L, D), torch.zeros(1, P))
    return Row(conditioning, negative, Schedule(kind, CONFIG).plan(steps, eta), guidance, merge_step, seed, shape)


def make_sampler(unet: nn.Module | None = None) -> Sampler:
    unet = unet or FakeUnet()
    return Sampler(unet, functools.partial(StableDiffusionXL("sdxl").predict, unet, max_tokens=L))


def run_alone(row: Row) -> torch.Tensor:
    sampler = make_sampler()
    key = sampler.add(row)
    while len(sampler):
        sampler.step()
    return sampler.finished()[key]


MIXED = [
    make_row(0, steps=6, tokens=L),
    make_row(1, steps=3, tokens=L + 3, guidance=1.0),
    make_row(2, steps=9, tokens=L + 1, merge_step=4),
    make_row(3, steps=5, kind="euler", guidance=7.5),
    make_row(4, steps=4, eta=0.8, merge_step=4),
    make_row(5, steps=4, shape=(4, 4, 2)),
    make_row(6, steps=7, kind="dpmpp_2m", tokens=L + 2),
    make_row(7, steps=5, kind="dpmpp_2m_sde", merge_step=2),
    make_row(8, steps=8, kind="unipc", guidance=2.0),
    make_row(9, steps=6, kind="euler_ancestral", guidance=1.0),
    make_row(10, steps=4, kind="lcm", guidance=1.0),
    make_row(11, steps=4, kind="tcd", eta=0.3),
    replace(make_row(12, steps=8, kind="dpmpp_2m"), guided=(2, 6)),
]


def test_rows_of_all_kinds_together_equal_each_alone():
    sampler = make_sampler()
    keys = [sampler.add(row) for row in MIXED]
    done = {}
    while len(sampler):
        sampler.step()
        done |= sampler.finished()
    for key, row in zip(keys, MIXED, strict=True):
        torch.testing.assert_close(done[key], run_alone(row))


@pytest.mark.parametrize("kind", ["ddim", "dpmpp_2m", "unipc", "euler_ancestral"])
def test_history_is_the_rows_own(kind):
    """A row that joins rows with a longer history, or outlives them, takes its own steps all the same."""
    late, sampler, done = make_row(1, steps=5, kind=kind), make_sampler(), {}
    sampler.add(make_row(0, steps=7, kind="unipc"))
    for _ in range(3):
        sampler.step()
    key = sampler.add(late)
    other = sampler.add(make_row(2, steps=2, kind="dpmpp_2m"))
    while len(sampler):
        sampler.step()
        done |= sampler.finished()
    assert other in done
    torch.testing.assert_close(done[key], run_alone(late))


def test_joining_and_leaving_between_steps_changes_no_row():
    sampler, done = make_sampler(), {}
    first = sampler.add(MIXED[0])
    sampler.step()
    second, third = sampler.add(MIXED[2]), sampler.add(MIXED[1])
    assert sampler.position(first) == (1, 6) and sampler.position(second) == (0, 9)
    sampler.step()
    sampler.remove(third)
    fourth = sampler.add(MIXED[4])
    while len(sampler):
        sampler.step()
        done |= sampler.finished()
    assert done.keys() == {first, second, fourth}
    for key, row in ((first, MIXED[0]), (second, MIXED[2]), (fourth, MIXED[4])):
        torch.testing.assert_close(done[key], run_alone(row))


def test_finished_rows_are_handed_out_once_and_can_be_removed():
    sampler = make_sampler()
    one, two = sampler.add(make_row(0, steps=1)), sampler.add(make_row(1, steps=1))
    assert sampler.step() == 2 and len(sampler) == 0
    sampler.remove(two)
    sampler.remove(12345)
    assert list(sampler.finished()) == [one] and sampler.finished() == {}
    assert sampler.step() == 0


def test_guidance_of_one_computes_no_unconditional_half():
    sampler = make_sampler()
    for guidance in (1.0, 5.0, 1.0):
        sampler.add(make_row(guidance=guidance))
    sampler.step()
    assert [call[0] for call in sampler.unet.calls] == [4]


@pytest.mark.parametrize(
    ("tokens", "guidance", "masked"),
    [((L, L), 3.0, False), ((L + 2, L + 2), 1.0, False), ((L + 2, L + 2), 3.0, True), ((L + 2, L + 1), 1.0, True)],
)
def test_attention_has_a_mask_only_where_a_row_is_padded(tokens, guidance, masked):
    sampler = make_sampler()
    for seed, count in enumerate(tokens):
        row = make_row(seed, tokens=count, guidance=guidance)
        sampler.add(replace(row, conditioning=row.conditioning.trimmed()))
    sampler.step()
    assert sampler.unet.masked == masked


def test_a_step_outside_the_guidance_interval_costs_one_row():
    """And is a step with guidance 1, whatever the others do."""
    sampler, row = make_sampler(), make_row(steps=6)
    key = sampler.add(replace(row, guided=guided_steps(0.2, 0.7, 6)))
    while len(sampler):
        sampler.step()
    assert [call[0] for call in sampler.unet.calls] == [1, 2, 2, 2, 1, 1]
    found = sampler.finished()[key]
    torch.testing.assert_close(run_alone(replace(row, guided=(0, 6))), run_alone(row))
    torch.testing.assert_close(run_alone(replace(row, guided=(3, 3))), run_alone(replace(row, guidance=1.0)))
    assert not torch.allclose(found, run_alone(row)) and not torch.allclose(found, run_alone(replace(row, guidance=1)))


def test_one_unet_call_a_step_for_each_latent_size():
    sampler = make_sampler()
    for row in MIXED:
        sampler.add(row)
    sampler.step()
    assert len(sampler.unet.calls) == 2


def test_text_only_before_the_merge_step():
    row = make_row(steps=5, tokens=L + 2, merge_step=2, guidance=1.0)
    sampler = make_sampler()
    sampler.add(row)
    while len(sampler):
        sampler.step()
    assert [length for _, length, _ in sampler.unet.calls] == [L, L, L + 2, L + 2, L + 2]
    never = make_row(steps=5, tokens=L + 2, merge_step=5)
    text = TextFeatures(never.conditioning.text_embeds, never.conditioning.text_pooled)
    plain = Row(Conditioning.from_text(text, torch.zeros(1, 6)), *list(vars(never).values())[1:])
    torch.testing.assert_close(run_alone(never), run_alone(plain))
    assert not torch.allclose(run_alone(never), run_alone(make_row(steps=5, tokens=L + 2, merge_step=4)))


def test_each_row_has_its_own_timesteps():
    sampler = make_sampler()
    sampler.add(make_row(steps=10, guidance=1.0))
    sampler.step()
    sampler.add(make_row(steps=4, guidance=1.0))
    sampler.step()
    assert sampler.unet.calls[-1][2].tolist() == [800, 750]


@pytest.mark.parametrize("eta", [0.0, 0.5])
def test_seed_decides_the_image(eta):
    same = [run_alone(make_row(3, eta=eta)) for _ in range(2)]
    assert torch.equal(*same)
    assert not torch.allclose(same[0], run_alone(make_row(4, eta=eta)))


class FailingUnet(FakeUnet):
    """Breaks for rows whose pooled text holds the mark, alone or not."""

    MARK = 777.0

    def forward(self, x, t, encoder_hidden_states, encoder_attention_mask, added_cond_kwargs, return_dict):
        if (added_cond_kwargs["text_embeds"] == self.MARK).any():
            raise RuntimeError("out of memory\nand a second line")
        return super().forward(x, t, encoder_hidden_states, encoder_attention_mask, added_cond_kwargs, return_dict)


def _spoilt(row: Row, value: float) -> Row:
    return replace(row, conditioning=replace(row.conditioning, pooled=torch.full((1, P), value)))


@pytest.mark.parametrize("value", [float("nan"), FailingUnet.MARK])
def test_a_row_that_fails_ends_alone(value):
    good = [MIXED[0], MIXED[2], MIXED[5]]
    sampler = make_sampler(FailingUnet())
    keys = [sampler.add(row) for row in good]
    bad = sampler.add(_spoilt(make_row(9, steps=7, merge_step=2), value))
    done, failed = {}, {}
    while len(sampler):
        sampler.step()
        done |= sampler.finished()
        failed |= sampler.failed()
        assert bad in failed or sampler.position(bad)[0] <= 2  # it fails where its identity is merged
    assert failed.keys() == {bad} and sampler.failed() == {}
    message = str(failed[bad])
    assert isinstance(failed[bad], RequestError) and "\n" not in message
    assert "seed 9" in message and "step 2 of 7" in message
    for key, row in zip(keys, good, strict=True):
        torch.testing.assert_close(done[key], run_alone(row))


def test_what_a_step_did_can_be_looked_at():
    sampler = make_sampler()
    row = make_row(3, steps=3)
    key = sampler.add(row)
    start = sampler.estimate(key)
    for index in range(3):
        sampler.step()
        (seen,) = sampler.advanced()
        assert (seen.key, seen.index, seen.timestep) == (key, index, float(row.plan.timesteps[index]))
        assert seen.estimate.shape == seen.latents.shape == row.shape
        if index < 2:
            assert torch.equal(sampler.estimate(key), seen.estimate) and not torch.equal(seen.estimate, start)
    assert sampler.keys() == []
    assert torch.equal(sampler.finished()[key], seen.latents)


def test_given_noise_and_generator_replace_the_seed():
    row = make_row(3, eta=0.5)
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(row.shape, generator=generator)
    assert torch.equal(run_alone(replace(row, seed=99, noise=noise, generator=generator)), run_alone(row))
