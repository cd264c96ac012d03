"""How many workers each step gets, and what of the cluster."""

from collections.abc import Sequence

from pm.data.config import WorkersConfig
from pm.data.run.steps import Step
from pm.errors import ConfigError


def pools_of(steps: Sequence[Step], want: WorkersConfig, cpus: float, gpus: float) -> dict[str, tuple[int, float]]:
    """For each step with actors, their number and the GPUs of each.

    Args:
        steps: of the graph.
        want: the settings.
        cpus: what the cluster has.
        gpus: likewise.

    Raises:
        ConfigError: they would leave no CPU for the tasks; Ray would wait for ever.
    """
    names = [step.name for step in steps if step.pool]
    on_gpu = [step.name for step in steps if step.pool and step.gpu]
    per_actor = want.gpus if want.gpus is not None else (1 / len(on_gpu) if gpus else 0.0)
    usual = max(1, int(gpus / (per_actor * len(on_gpu)) + 1e-6) if per_actor else int(cpus // 4))
    pools = {}
    for name in names:
        share = per_actor if name in on_gpu else 0.0
        pools[name] = (getattr(want, name, None) or (usual if share else max(1, int(cpus // 4))), share)
    needed = sum(size for size, _ in pools.values()) * want.actor_cpus + want.task_cpus
    needed_gpus = sum(size * share for size, share in pools.values())
    if needed > cpus or needed_gpus > gpus + 1e-6:
        settings = ", ".join(f"workers.{name}" for name in names)
        raise ConfigError(
            f"workers need {needed:g} CPUs and {needed_gpus:g} GPUs, Ray has {cpus:g} and {gpus:g}; "
            f"lower {settings}, workers.actor_cpus or workers.gpus"
        )
    return pools
