"""`dataset=folder`: `<root>/<name>_<class word>/<photo>`, in a folder or a bucket; tars are WebDataset shards."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from pm.data.source.choice import Found, SourceChoice
from pm.data.source.tree import found_below


@dataclass(frozen=True)
class Folder(SourceChoice):
    """Identities are the folders below the root; in tars the folders of the members, or what a sample's JSON names."""

    def found(self, ignored: Counter[str]) -> Iterator[Found]:
        """Everything below the root; see `SourceChoice.found`."""
        return found_below(str(self.root), ignored)
