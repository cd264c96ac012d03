"""Every rule for loss weights, in the units of every prediction, against its definition."""

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from pm.choice import part_names
from pm.config import from_mapping
from pm.errors import ConfigError
from pm.train.diffusion import noise_schedule
from pm.train.losses.choice import LossWeights

SDXL = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
RULES = {
    "uniform": ({"name": "uniform"}, None),
    "min_snr": ({"name": "min_snr", "gamma": 5.0}, lambda snr: torch.minimum(snr, torch.tensor(5.0))),
    "debiased": ({"name": "debiased"}, torch.sqrt),
}


def test_every_rule_is_held_against_its_definition():
    assert part_names(LossWeights) == sorted(RULES)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_its_definition_in_the_units_of_the_prediction(rule, prediction):
    settings, in_z0 = RULES[rule]
    config = SDXL | {"prediction_type": prediction}
    timesteps = torch.tensor([0, 10, 300, 600, 999])
    got = from_mapping(LossWeights, settings).build(noise_schedule(config))(timesteps)
    snr = compute_snr(DDPMScheduler.from_config(config), timesteps)
    units = {"epsilon": snr, "v_prediction": snr + 1, "sample": torch.ones(5)}[prediction]
    expected = torch.ones(5) if in_z0 is None else in_z0(snr) / units
    assert got.dtype is torch.float32
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("rule", RULES)
def test_a_weight_is_finite_where_there_is_no_signal(rule):
    schedule = noise_schedule(SDXL | {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"})
    assert torch.isfinite(from_mapping(LossWeights, RULES[rule][0]).build(schedule)(torch.tensor([0, 999]))).all()


def test_gamma_has_a_range_and_belongs_to_min_snr_alone():
    with pytest.raises(ConfigError, match="train.loss_weights.gamma=0.0 must be above 0"):
        from_mapping(LossWeights, {"name": "min_snr", "gamma": 0.0}, "train.loss_weights")
    with pytest.raises(ConfigError, match="unknown config key 'train.loss_weights.gamma'"):
        from_mapping(LossWeights, {"name": "uniform", "gamma": 5.0}, "train.loss_weights")
