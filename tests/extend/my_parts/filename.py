"""`caption=filename`: the file's name is the caption, `a_man_in_a_red_hat.png`."""

from dataclasses import dataclass
from pathlib import PurePosixPath

from pm.data.captioning.choice import CaptionChoice, Captioner
from pm.data.records import Photo


@dataclass(frozen=True)
class FileName(CaptionChoice):
    separator: str  # stands for a space

    def build(self, root: str, *, device: str, dtype: str, batch_size: int | None) -> Captioner:
        return FileNameCaptioner(self.separator)


class FileNameCaptioner:
    def __init__(self, separator: str):
        self.separator = separator

    def __call__(self, photo: Photo) -> tuple[str, str]:
        words = PurePosixPath(photo.photo).stem.split(self.separator)
        return " ".join(words), ""  # "": the class word is one of the caption's
