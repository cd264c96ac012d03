"""What a run accepts, and what it says when it does not."""

import dataclasses

import pytest
from support.training import run_config, settings, train_config

from pm.config import from_mapping
from pm.errors import ConfigError
from pm.train.engine.zero import ZeroChoice
from pm.train.loop import warmup
from pm.train.run.config import RunConfig
from pm.train.run.plan import fit_workers
from pm.train.run.summary import is_finished, write_summary


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"train__steps": 0}, "train.steps=0 must be at least 1"),
        ({"train__null_text": 1.5}, "train.null_text=1.5 must be at least 0 and at most 1"),
        ({"train__min_references": 5}, "max_references=4 is below train.min_references=5"),
        ({"train__max_references": 9}, "exceeds adapter.max_id_images=4"),
        ({"train__ema_decay": 1.0}, "train.ema_decay=1.0 must be above 0 and below 1"),
        ({"train__grad_clip": 0.0}, "train.grad_clip=0.0 must be above 0"),
        ({"train__betas": [0.9]}, "must be two numbers"),
        ({"train__precision": "fp16"}, "train.precision='fp16' is not one of auto, fp32, bf16"),
        ({"train__stepz": 3}, "did you mean 'steps'"),
        ({"engine__name": "zero4"}, "engine='zero4' is not one of ddp, zero;"),
        ({"engine": {"name": "zero", "stage": 4, "deepspeed": {}}}, "engine.stage=4 must be at least 1 and at most 3"),
        ({"workers__use_gpu": "maybe"}, "workers.use_gpu='maybe'"),
        ({"validation__prompts": ["a man"]}, "lacks '{class_word} {trigger}'"),
        ({"name": "../other"}, "must be a plain name"),
    ],
)
def test_bad_settings_name_the_value_and_the_way_out(over, message):
    with pytest.raises(ConfigError, match=message.replace(".", r"\.").replace("{", r"\{")):
        from_mapping(RunConfig, settings("data", "base", **over))


@pytest.mark.parametrize(
    ("batch", "micro", "workers", "expected"),
    [(32, None, 2, (16, 1)), (32, 4, 2, (4, 4)), (48, 1, 8, (1, 6)), (6, None, 1, (6, 1))],
)
def test_the_global_batch_is_micro_batch_times_workers_times_accumulation(batch, micro, workers, expected):
    config = train_config(batch_size=batch, micro_batch_size=micro)
    assert (config.micro_batch(workers), config.accumulation(workers)) == expected


def test_a_batch_that_cannot_be_split_names_one_that_can():
    with pytest.raises(ConfigError, match=r"batch_size=32 is not divisible by 3 workers x 10 samples .*batch_size=30"):
        train_config(batch_size=32).check_split(3)
    with pytest.raises(ConfigError, match=r"batch_size=1 .*2 workers x 1 .*batch_size=2"):
        train_config(batch_size=1).check_split(2)


def test_warmup_is_linear_and_then_constant():
    assert [warmup(step, 4) for step in (0, 1, 3, 4, 100)] == [0.25, 0.5, 1, 1, 1]
    assert warmup(0, 0) == 1


def test_a_run_is_finished_when_it_has_its_steps_and_its_adapter(tmp_path):
    config = run_config("data", "base")
    assert not is_finished(tmp_path, config)
    write_summary(tmp_path, config, {"loss": 1.0}, 3.0)
    assert not is_finished(tmp_path, config)
    (tmp_path / "adapter.safetensors").touch()
    assert is_finished(tmp_path, config)
    longer = dataclasses.replace(config, train=train_config(steps=7))
    assert not is_finished(tmp_path, longer)


def test_deepspeed_settings_are_derived_and_can_be_overridden_one_by_one():
    import torch

    from pm.train.engine.zero import deepspeed_config

    over = {"zero_optimization": {"offload_optimizer": {"device": "cpu"}}, "gradient_clipping": 0.5}
    config = deepspeed_config(
        ZeroChoice("zero", 3, over), train_config(batch_size=48, micro_batch_size=1), 8, 10**9, torch.device("cuda")
    )
    assert (config["train_micro_batch_size_per_gpu"], config["gradient_accumulation_steps"]) == (1, 6)
    assert config["gradient_clipping"] == 0.5
    zero = config["zero_optimization"]
    assert zero["stage"] == 3 and zero["offload_optimizer"] == {"device": "cpu"} and zero["overlap_comm"]
    assert zero["reduce_bucket_size"] < 10**9  # buffers of this size are allocated up front


def test_one_worker_has_nothing_to_split_but_may_offload():
    plain, offload = ZeroChoice("zero", 3, {}), ZeroChoice("zero", 3, {"zero_optimization": {}})
    assert plain.plain(1) and not plain.plain(2) and not offload.plain(1)


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
