"""InsightFace's model packs. Needs the extra `insightface`."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pm.errors import CheckpointError, ConfigError, install_hint

_CUDA = "CUDAExecutionProvider"


def load_models(setting: str, pack: str, *, modules: Sequence[str], side: int, threshold: float, device: str) -> Any:
    """InsightFace's `FaceAnalysis` with some of a model pack's parts ("detection", "recognition").

    Args:
        setting: what named the pack, for messages.
        pack: name of a pack, which the library downloads at its first use, or a folder with .onnx files.
        side: of the square that photos are scaled into for detection, px.

    Raises:
        ConfigError: not installed.
        CheckpointError: the pack is not there, or a part is missing in it.
    """
    try:
        from insightface.app import FaceAnalysis
    except ImportError:
        way = f"run {install_hint('insightface')} (its weights are for non-commercial research only)"
        raise ConfigError(f"InsightFace is not installed; {way}") from None
    providers = ["CPUExecutionProvider"] if device == "cpu" else [_CUDA, "CPUExecutionProvider"]
    name = str(Path(pack).resolve()) if Path(pack).is_dir() else pack
    try:
        models = FaceAnalysis(name=name, allowed_modules=["detection", *modules], providers=providers)
        models.prepare(ctx_id=-1 if device == "cpu" else 0, det_thresh=threshold, det_size=(side, side))
    except Exception as error:  # network, broken files, missing parts: the library has no error type of its own
        raise CheckpointError(
            f"{setting}={pack} cannot be loaded ({type(error).__name__}: {error}); give a pack's name "
            "(buffalo_l) with network access, or a folder with its .onnx files"
        ) from error
    if device != "cpu":
        _tell_fallback(setting, models.models.values())
    missing = [part for part in modules if part not in models.models]
    if missing:
        raise CheckpointError(f"{setting}={pack} has no model for {missing[0]}; choose a whole pack such as buffalo_l")
    return models


def _tell_fallback(setting: str, models: Iterable[Any]) -> None:
    """Say when ONNX Runtime, which is silent about it, runs a model on the CPU although a GPU was given."""
    import onnxruntime

    used = {provider for model in models for provider in model.session.get_providers()[:1]}
    if used <= {_CUDA}:
        return
    why = "it was not built for CUDA" if _CUDA not in onnxruntime.get_available_providers() else "CUDA did not start"
    logging.getLogger(__name__).warning(
        "%s: InsightFace runs on the CPU although there is a GPU: onnxruntime %s, %s; replace it by onnxruntime-gpu: "
        "pip uninstall onnxruntime, then %s",
        setting,
        onnxruntime.__version__,
        why,
        install_hint("insightface-gpu"),
    )


def pack_files(pack: str) -> tuple[Path, ...]:
    """The networks of a pack that is on this machine, sorted: in its folder, or where the library keeps packs."""
    folder = Path(pack) if Path(pack).is_dir() else Path("~/.insightface/models", pack).expanduser()
    return tuple(sorted(folder.glob("*.onnx")))
