"""Which GPUs this process may see, and how much of one it may take.

A process of a cluster calls `see_only` before anything asks CUDA for a device. Ray (2.60) hides no GPU from a worker
that has none of its own: without this, each of them would find the first one.
"""

import os

from pm.errors import ConfigError

VISIBLE = "CUDA_VISIBLE_DEVICES"
CONTEXT = 3 * 2**28  # bytes of a process's CUDA context and libraries, which torch does not count
_ROUND = 1e-6


def see_only(given: float) -> None:
    """Be content with what this process was given of the machine's GPUs.

    Args:
        given: GPUs, as Ray counts them: 0: none is seen; a part of one: no more of its memory is taken, so that those
            who share it do not run out of it.

    Raises:
        ConfigError: a GPU was given, and this torch cannot use it.
    """
    if given <= _ROUND:
        os.environ[VISIBLE] = ""
        return
    check_build()
    if given < 1 - _ROUND:
        import torch

        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(max(0.01, given - CONTEXT / total))


def check_build() -> None:
    """Fail where a GPU was given and this torch is not built for it, or for what its driver knows.

    torch itself would say so in a warning and compute on the CPU, some hundred times slower.

    Raises:
        ConfigError: names torch's build and the driver's.
    """
    import torch

    built = torch.version.cuda or torch.version.hip
    if built is None:
        raise ConfigError(
            f"a GPU was given to this process, but torch {torch.__version__} is a build for the CPU; install one for "
            "CUDA (make install TORCH_ARGS=..., see the README), or use no GPU (workers.use_gpu=false, "
            "workers.gpus=0, engines.num_gpus=0)"
        )
    if not torch.cuda.is_available():
        raise ConfigError(
            f"a GPU was given to this process, but torch {torch.__version__}, built for CUDA {built}, cannot use it: "
            "the driver is older than that, or missing in this container; install a torch for an older CUDA (make "
            "install TORCH_ARGS=..., see the README) or a newer driver, and compare with `nvidia-smi`"
        )
    major, minor = torch.cuda.get_device_capability(0)
    known = torch.cuda.get_arch_list()
    # Code for one generation runs on its later members, and code in the intermediate form on all later ones.
    fits = any(
        kind == "compute" and int(number) <= 10 * major + minor
        or kind == "sm" and int(number) // 10 == major and int(number) % 10 <= minor
        for kind, _, number in (each.rstrip("af").partition("_") for each in known)
        if number.isdigit()
    )  # fmt: skip
    if torch.version.cuda and known and not fits:
        raise ConfigError(
            f"torch {torch.__version__} has no code for {torch.cuda.get_device_name(0)} (sm_{major}{minor}; it has "
            f"{', '.join(known)}); install a build that has"
        )


def check_cuda(built: str | None, wanted: str) -> None:
    """Fail unless a torch is built for the CUDA that an image or a cluster has.

    Args:
        built: `torch.version.cuda`, for example "12.8".
        wanted: as uv names it, "cu128".

    Raises:
        ConfigError: it is built for another one.
    """
    found = "cpu" if built is None else f"cu{built.replace('.', '')}"
    if found != wanted:
        raise ConfigError(f"torch is built for {found}, not for {wanted}; name another with TORCH_BACKEND={found}")


def set_float32(exact: bool) -> None:
    """How products of float32 are made on a GPU from now on.

    Args:
        exact: in float32, convolutions too; else in TF32, with 10 bits of mantissa and several times as fast. torch's
            own default is a mixture: convolutions in TF32, all else in float32.
    """
    import torch

    torch.backends.cuda.matmul.allow_tf32 = not exact
    torch.backends.cudnn.allow_tf32 = not exact
