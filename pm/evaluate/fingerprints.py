"""Of what pictures and values are made: numbers that change when anything does that they depend on."""

import hashlib
import json
from collections.abc import Sequence

from pm.methods.trial import Photo, Trial


class Fingerprints:
    """Of trials and their photos; each photo is read once."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        self._trials = trials
        self._photos: dict[int, str] = {}  # by identity: the photos of a person are the same objects in each trial

    def of_pictures(self) -> str:
        """Of everything that methods see: 16 hex digits."""
        digest = hashlib.sha256()
        for trial in self._trials:
            photos = [self._photo(photo) for photo in trial.references]
            facts = [trial.person, trial.class_word, trial.template, trial.seeds, photos]
            digest.update(json.dumps(facts).encode())
        return digest.hexdigest()[:16]

    def of_values(self, number: int, pictures: Sequence[bytes]) -> str:
        """Of everything that metrics see of a trial: 16 hex digits.

        Args:
            number: of the trial.
            pictures: SHA-256 of each picture's file.
        """
        trial = self._trials[number]
        photos = [[self._photo(photo) for photo in of] for of in (trial.references, trial.held_out)]
        facts = [trial.person, trial.class_word, trial.template, photos, [picture.hex() for picture in pictures]]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    def _photo(self, photo: Photo) -> str:
        if id(photo) not in self._photos:
            mask = b"" if photo.mask is None else photo.mask.tobytes()
            self._photos[id(photo)] = hashlib.sha256(photo.image.tobytes() + mask).hexdigest()
        return self._photos[id(photo)]
