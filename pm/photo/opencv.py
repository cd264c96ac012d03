"""OpenCV, which only real photos need, and the small networks that it runs. Needs the extra `photos`."""

import hashlib
from pathlib import Path
from types import ModuleType

import numpy as np

from pm.errors import CheckpointError, ConfigError, install_hint

# Shipped with the project; where they come from says weights/NOTICE.
_SHA256 = {
    "yunet_n.onnx": "81dbde155e982455488235acb8ec2dec5d647edf7cf7080d33e4abb69b93a0d2",
    "selfie_segmentation.tflite": "8d13b7fae74af625c641226813616a2117bd6bca19eb3b75574621fc08557f27",
}
_FOLDER = Path(__file__).parent / "weights"


def import_cv2(choice: str) -> ModuleType:
    """The module cv2.

    Raises:
        ConfigError: not installed, or older than 4.14, which cannot read the networks; names the choice that needs it.
    """
    try:
        import cv2
    except ImportError:
        raise ConfigError(f"{choice} needs OpenCV; run {install_hint('photos')}") from None
    version = tuple(int(part) for part in cv2.__version__.split(".")[:2])
    if version < (4, 14):
        raise ConfigError(f"{choice} needs OpenCV 4.14 or later, found {cv2.__version__}; run {install_hint('photos')}")
    return cv2


def weights_path(file: str) -> Path:
    """Where a network in weights/ is."""
    return _FOLDER / file


def shipped_weights(file: str) -> np.ndarray:
    """The bytes of a network in weights/, uint8 [n], after a look at its checksum.

    Raises:
        CheckpointError: missing, or not the file that belongs to this version.
    """
    path = weights_path(file)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error}); install the project again") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != _SHA256[file]:
        raise CheckpointError(
            f"{path} is not the file that this version ships (sha256 {digest[:12]}..., expected "
            f"{_SHA256[file][:12]}...); install the project again"
        )
    return np.frombuffer(data, np.uint8)
