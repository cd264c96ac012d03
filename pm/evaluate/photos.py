"""Which photos of a person pictures are compared with."""

from typing import Literal

import numpy as np

from pm.methods.trial import Trial

# references: what the method was shown, as the paper compares (section 4.1, after DreamBooth); held_out: other photos
# of the person, of which a copy of a reference has no advantage.
Against = Literal["references", "held_out"]


def photos_of(trial: Trial, against: Against) -> list[np.ndarray]:
    """Pixels uint8 [H, W, 3] of each; none where there are no such photos."""
    return [photo.image for photo in (trial.references if against == "references" else trial.held_out)]
