"""What several tests of the service need."""

import dataclasses
import io

import numpy as np
from PIL import Image

PROMPT = "a man img in a red shirt"


def photo(seed: int = 0, size: tuple[int, int] = (48, 40), kind: str = "PNG") -> bytes:
    """A small picture of noise, as a file."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def local_service(engine, config, keys=None, compat=True, **limits):
    """An ingress around an engine in this process."""
    from serving.engine.backend import LocalBackend
    from serving.http.quota import LocalQuotas
    from serving.http.service import Service
    from serving.metrics import MemoryRecorder

    changed = dataclasses.replace(
        config,
        limits=dataclasses.replace(config.limits, **limits),
        service=dataclasses.replace(config.service, compat=compat),
    )
    quotas = LocalQuotas(changed.limits.request_s, changed.limits.retry_after_s)
    return Service(changed, LocalBackend(engine), MemoryRecorder(), quotas, keys)
