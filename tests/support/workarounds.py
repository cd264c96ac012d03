"""What DeepSpeed and gloo do without this project's work-arounds, and with them: a process of its own, as JSON.

python -m support.workarounds <file of the rendezvous>
"""

import json
import os
import sys

import deepspeed
import torch
import torch.distributed as dist

from pm.train.engine.base import fresh_moments, make_optimizer
from pm.train.engine.deepspeed_config import deepspeed_config
from pm.train.engine.join import join_process_group
from pm.train.engine.linked import link_moments
from pm.train.engine.zero3 import PersistentWeights
from support.training import TinyModel, train_config

CPU = torch.device("cpu")


def threads_of_gathering(group) -> int:
    """Threads that gathering in a group leaves behind."""
    large = torch.ones(1_000_000) + 1
    dist.barrier(group=group)  # gloo's own threads are there
    before = len(os.listdir("/proc/self/task"))
    for _ in range(16):
        dist.all_gather([torch.empty_like(large)], large, group=group)
    return len(os.listdir("/proc/self/task")) - before


def wrapped(stage, **zero):
    """A tiny model's parameters and DeepSpeed's optimizer around them."""
    model, train = TinyModel(), train_config()
    optimizer = make_optimizer(model.parameter_groups(), train, CPU)
    config = deepspeed_config(stage, {"zero_optimization": zero} if zero else {}, train, 1, 100, CPU)
    _, wrapper, _, _ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    return model, optimizer, wrapper


def main() -> None:
    torch.set_num_threads(2)
    found = {"operators": sorted(name for name, there in deepspeed.ops.__compatible_ops__.items() if there)}
    dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=0, world_size=1)
    join_process_group(CPU)
    found["torch_threads"] = torch.get_num_threads()
    found["threads_with"] = threads_of_gathering(dist.group.WORLD)
    found["threads_without"] = threads_of_gathering(dist.new_group(backend="gloo"))

    model, optimizer, wrapper = wrapped(2)
    for part in wrapper.single_partition_of_fp32_groups:
        optimizer.state[part] = fresh_moments(part, optimizer, updates=0)
    slices = [parameter._hp_mapping for parameter in (model.trained.weight, model.trained.bias)]
    found["linked_without"] = [bool(each.optim_fragment) for each in slices]
    link_moments(wrapper)
    found["linked_with"] = [bool(each.optim_fragment) for each in slices]

    _, _, wrapper = wrapped(3)
    hooks = lambda: sum(len(h) for h in (offload.forward_hooks, offload.backward_hooks))  # noqa: E731
    offload = wrapper.parameter_offload
    found["persistent_without"], found["hooks_without"] = len(wrapper.persistent_parameters), hooks()
    PersistentWeights(wrapper, 1000)
    found["persistent_with"], found["hooks_with"] = len(wrapper.persistent_parameters), hooks()

    linear = torch.nn.functional.linear
    wrapped(3, memory_efficient_linear=True)
    found["linear_is_replaced_for_all"] = torch.nn.functional.linear is not linear
    print(json.dumps(found))


if __name__ == "__main__":
    main()
