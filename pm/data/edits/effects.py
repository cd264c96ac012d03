"""What corrections by hand come to: whose a photo is, whether it stays, how it is captioned. No files here.

An edit is a mapping with its kind under `edit`:

    {edit: keep, photo}                 it stays, whatever a stage thinks that only judges
    {edit: reject, photo, why}
    {edit: caption, photo, caption, class_word}    either may be missing
    {edit: merge, person, into}         all photos of `person` are `into`'s, also those that come later
    {edit: split, photos, into}         these photos are `into`'s
    {edit: reset, photo}                nothing by hand for this photo any more
    {edit: forget, who}                 a person, or a photo by its sha256
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

# Of each kind, what it needs and what it may have beside that.
KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "keep": (("photo",), ("why",)),
    "reject": (("photo",), ("why",)),
    "caption": (("photo",), ("caption", "class_word", "why")),
    "merge": (("person", "into"), ("why",)),
    "split": (("photos", "into"), ("why",)),
    "reset": (("photo",), ("why",)),
    "forget": (("who",), ("why",)),
}
Edit = Mapping[str, Any]


@dataclass
class Effects:
    """Edits in force, one after the other."""

    people: dict[str, str] = field(default_factory=dict)  # as the photos' folders say → whose they are
    photos: dict[str, str] = field(default_factory=dict)  # → whose it is
    decisions: dict[str, tuple[str, str]] = field(default_factory=dict)  # photo → keep | reject, why
    captions: dict[str, tuple[str, str]] = field(default_factory=dict)  # photo → caption, class word; "": as it was
    stems: dict[str, str] = field(default_factory=dict)  # as `photos`, by names without suffix

    def person(self, folder: str, name: str) -> str:
        """Whose a file is: a photo, or a sidecar, which is its photo's.

        Args:
            folder: the person that the file's place says.
            name: of the file below the root.
        """
        if self.photos:
            owner = self.stems.get(name.rpartition(".")[0])
            if owner is not None:
                return owner
        return self.people.get(folder, folder)

    def note(self, photo: str) -> str:
        """What is said by hand about a photo, as JSON {keep | reject, caption, class_word}; "": nothing."""
        said: dict[str, Any] = {}
        if photo in self.decisions:
            decision, why = self.decisions[photo]
            said[decision] = why
        if photo in self.captions:
            said["caption"], said["class_word"] = self.captions[photo]
        return json.dumps(said, sort_keys=True) if said else ""

    def add(self, edit: Edit) -> None:
        """The next edit."""
        kind = edit["edit"]
        if kind in ("keep", "reject"):
            self.decisions[edit["photo"]] = (kind, str(edit.get("why") or ""))
        elif kind == "caption":
            caption, word = self.captions.get(edit["photo"], ("", ""))
            self.captions[edit["photo"]] = (edit.get("caption") or caption, edit.get("class_word") or word)
        elif kind == "merge":
            gone, into = edit["person"], edit["into"]
            for owners in (self.people, self.photos):
                owners.update((key, into) for key, who in list(owners.items()) if who == gone)
            self.people[gone] = into
            self.people = {folder: who for folder, who in self.people.items() if folder != who}
        elif kind == "split":
            self.photos.update(dict.fromkeys(edit["photos"], edit["into"]))
        elif kind == "reset":
            for said in (self.photos, self.decisions, self.captions):
                said.pop(edit["photo"], None)
        self.stems = {photo.rpartition(".")[0]: who for photo, who in self.photos.items()}


def mentions(edit: Edit, who: str, photos: Collection[str]) -> bool:
    """Whether an edit is about a person or one of these photos."""
    if who in (edit.get("person"), edit.get("into"), edit.get("who")):
        return True
    return edit.get("photo") in photos or any(photo in photos for photo in edit.get("photos", ()))


def effects_of(edits: Iterable[Edit]) -> Effects:
    """What these edits come to, in their order; `forget` is not among them: it is done once, by `forget`."""
    found = Effects()
    for edit in edits:
        found.add(edit)
    return found
