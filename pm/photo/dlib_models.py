"""dlib and its model files, as PyPI has them. Needs the extra `photos`."""

import importlib.util
from pathlib import Path
from types import ModuleType

from pm.errors import ConfigError, install_hint

FIVE_POINTS = "shape_predictor_5_face_landmarks.dat"
RESNET = "dlib_face_recognition_resnet_model_v1.dat"


def import_dlib() -> ModuleType:
    """dlib, which only real photos need.

    Raises:
        ConfigError: not installed.
    """
    try:
        import dlib
    except ImportError:
        raise ConfigError(f"dlib is not installed; {_way_out()}") from None
    return dlib


def dlib_model(file: str) -> str:
    """Path of one of dlib's model files, as `face_recognition_models` ships them.

    That package is located and never imported: its `__init__` needs the removed pkg_resources.

    Raises:
        ConfigError: the package or the file is not installed.
    """
    spec = importlib.util.find_spec("face_recognition_models")
    path = Path(spec.origin).parent / "models" / file if spec and spec.origin else None
    if path is None or not path.is_file():
        raise ConfigError(f"dlib's model file {file} is not installed; {_way_out()}")
    return str(path)


def _way_out() -> str:
    return f"run {install_hint('photos')}, or use face=sidecar and embedder=none"
