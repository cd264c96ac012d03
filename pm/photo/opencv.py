"""OpenCV, which only real photos need. Needs the extra `photos`."""

from types import ModuleType

from pm.errors import ConfigError, install_hint


def import_cv2(choice: str) -> ModuleType:
    """The module cv2.

    Raises:
        ConfigError: not installed; names the choice that needs it.
    """
    try:
        import cv2
    except ImportError:
        raise ConfigError(f"{choice} needs OpenCV; run {install_hint('photos')}") from None
    return cv2
