"""`dataset=webdataset`: tars below a folder or a prefix, with `<name>_<class word>/<photo>` or JSON that names them."""

from dataclasses import dataclass

from pm.data.source.folder import Folder


@dataclass(frozen=True)
class WebDataset(Folder):
    """The same as `dataset=folder`, which reads tars too."""
