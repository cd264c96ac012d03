"""The pictures: one grid, the same for the same weights, and training continues as if there had been none."""

import numpy as np
import torch
from PIL import Image
from support.training import run_config

from pm.train.callbacks.validation import Validation
from pm.train.run.context import LocalContext
from pm.train.run.model import new_model
from pm.train.run.workers import _load
from pm.train.step import Precision


def test_the_same_weights_make_the_same_pictures_and_training_is_not_disturbed(tiny_dataset, tiny_base, tmp_path):
    config = run_config(tiny_dataset, tiny_base, train__validate_every=1, validation__sampler__steps=2)
    context = LocalContext(tmp_path)
    base, dataset = _load(config, context, None)
    photomaker = new_model(config, base)
    validation = Validation(config.validation, context, base, photomaker, dataset, Precision(torch.float32))
    before = {name: value.clone() for name, value in photomaker.state_dict().items()}
    paths = [validation(step) for step in (1, 2)]
    assert [path.name for path in paths] == ["step-00000001.png", "step-00000002.png"]
    assert photomaker.training
    assert all(torch.equal(value, before[name]) for name, value in photomaker.state_dict().items())
    first, second = (np.asarray(Image.open(path).convert("RGB")).astype(int) for path in paths)
    title = 40  # px, where the step stands
    assert np.array_equal(first[title:], second[title:])
    with torch.no_grad():
        for parameter in photomaker.unet.parameters():
            parameter.add_(0.1)
    third = np.asarray(Image.open(validation(3)).convert("RGB")).astype(int)
    assert not np.array_equal(first[title:], third[title:])
