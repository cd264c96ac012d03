"""The masked loss by its properties."""

import pytest
import torch

from pm.train.losses.masked import masked_mse


def test_masked_loss_sees_only_the_mask_and_keeps_its_scale():
    wanted = torch.zeros(4, 2, 4, 4)
    prediction = torch.ones(4, 2, 4, 4)
    mask = torch.zeros(4, 1, 4, 4)
    mask[:, :, :2] = 1
    prediction[0, :, 2:] = 100  # outside
    prediction[1, :, 2:] = 100
    mask[3] = 0  # nothing to look at
    loss = masked_mse(prediction, wanted, mask, torch.tensor([True, False, True, True]))
    assert loss[0] == 1  # an error of 1 inside costs 1, whatever is outside
    assert loss[1] == (1 + 100**2) / 2
    assert loss[2] == 1
    assert loss[3] == 1  # unmasked, and no division by zero


def test_soft_masks_weigh_by_coverage():
    mask = torch.tensor([[[[1.0, 0.5]]]])
    error = torch.tensor([[[[1.0, 2.0]]]])
    loss = masked_mse(error, torch.zeros_like(error), mask, torch.tensor([True]))
    assert loss.item() == pytest.approx((1 * 1 + 0.5 * 4) / 1.5)
