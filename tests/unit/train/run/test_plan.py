"""How many workers of what size."""

import pytest
from support.training import run_config

from pm.errors import ConfigError
from pm.train.run.plan import fit_workers


def workers(**over):
    return run_config("data", "base", **{f"workers__{key}": value for key, value in over.items()}).workers


def test_workers_are_fitted_to_what_there_is():
    fit = lambda config, **has: fit_workers(config, has)  # noqa: E731
    eight = {"num_workers": 8, "use_gpu": True, "resources_per_worker": {"CPU": 1, "GPU": 1}}
    elastic = {"num_workers": (4, 8), "elastic_resize_monitor_interval_s": 60}
    assert fit(workers(), CPU=64, GPU=8) == (8, eight)
    assert fit(workers(num=8, min=4), CPU=64, GPU=5) == (8, eight | elastic)
    assert fit(workers(num=8, min=8), CPU=64, GPU=8) == (8, eight)
    with pytest.raises(ConfigError, match="workers.min=4 on GPUs needs 4 GPUs, Ray has 3; set workers.min=3"):
        fit(workers(num=8, min=4, use_gpu=True), CPU=64, GPU=3)
    with pytest.raises(ConfigError, match="workers.num=1 on GPUs needs 1 GPUs, Ray has 0; set workers.use_gpu=false"):
        fit(workers(use_gpu=True), CPU=64)  # a head whose GPU nodes have not come yet
    with pytest.raises(ConfigError, match="workers.min=9 is above workers.num=8"):
        workers(num=8, min=9)
