"""The DeepSpeed config of a run."""

from support.training import train_config

from pm.train.engine.zero import ZeroChoice


def test_deepspeed_settings_are_derived_and_can_be_overridden_one_by_one():
    import torch

    from pm.train.engine.deepspeed_config import deepspeed_config

    over = {"zero_optimization": {"offload_optimizer": {"device": "cpu"}}, "gradient_clipping": 0.5}
    train = train_config(batch_size=48, micro_batch_size=1)
    config = deepspeed_config(3, over, train, 8, 10**9, torch.device("cuda"))
    assert (config["train_micro_batch_size_per_gpu"], config["gradient_accumulation_steps"]) == (1, 6)
    assert config["gradient_clipping"] == 0.5
    zero = config["zero_optimization"]
    assert zero["stage"] == 3 and zero["offload_optimizer"] == {"device": "cpu"} and zero["overlap_comm"]
    assert zero["reduce_bucket_size"] < 10**9  # buffers of this size are allocated up front


def test_one_worker_has_nothing_to_split_but_may_offload():
    plain, offload = ZeroChoice("zero", 3, {}), ZeroChoice("zero", 3, {"zero_optimization": {}})
    assert plain.plain(1) and not plain.plain(2) and not offload.plain(1)
