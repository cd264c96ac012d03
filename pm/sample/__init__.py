"""From prompts and photos to portraits. What scripts use is exported here, and loaded when it is first asked for."""

from typing import Any

_EXPORTS = {
    "PhotoMakerPipeline": "pm.sample.pipeline",
    "Request": "pm.sample.request",
    "Person": "pm.sample.people",
    "BASE": "pm.sample.request",
    "Sampler": "pm.sample.sampler",
    "Row": "pm.sample.sampler",
}
__all__ = list(_EXPORTS)


def __getattr__(name: str) -> Any:
    # Imported late: configurations are read from this package too, and torch takes seconds.
    import importlib

    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)
