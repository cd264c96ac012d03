"""The samplers of `conf/sampler/` by name, for Python and for requests of a service: `lightning4`, `dpmpp_2m`, ..."""

import functools

from pm.config import from_mapping
from pm.errors import RequestError, did_you_mean
from pm.resources import conf_choices, resource
from pm.sample.config import SamplerConfig


def preset_names() -> list[str]:
    """Names that `preset` takes."""
    return sorted(name for name, package in conf_choices("sampler").items() if not package)


@functools.cache
def preset(name: str) -> SamplerConfig:
    """The settings of `sampler=NAME` on the command line.

    Raises:
        RequestError: there is none of that name.
    """
    import yaml

    names = preset_names()
    if name not in names:
        near = did_you_mean(str(name), names) or ";"
        raise RequestError(f"sampler={name!r} is not one of ours{near} known: {', '.join(names)}")
    values = yaml.safe_load(resource(f"conf/sampler/{name}.yaml").read_text(encoding="utf-8"))
    return from_mapping(SamplerConfig, values, "sampler")


def lora_name(lora: str) -> str:
    """The name under which a service has one of `SamplerConfig.loras`: of its file, or of the repository or folder.

    `owner/name/pytorch_lora_weights.safetensors` is `name`, as every repository has a file of that name.
    """
    parts = lora.rpartition(":")[0].split("/") if _has_strength(lora) else lora.split("/")
    stem = parts[-1].removesuffix(".safetensors")
    usual = stem in ("pytorch_lora_weights", "adapter_model", "adapter")
    return parts[-2] if usual and len(parts) > 1 else stem


def _has_strength(lora: str) -> bool:
    try:
        float(lora.rpartition(":")[2])
    except ValueError:
        return False
    return ":" in lora
