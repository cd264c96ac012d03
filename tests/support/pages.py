"""Reading an HTML page."""

import html.parser
import json
import re
from pathlib import Path

_REFERENCES = ("for", "aria-labelledby", "aria-describedby", "aria-controls", "list")  # attributes that name ids

_OF_PAIRS = ("reference", "reference-line", "pairs-body")  # of a report with two rows or more


class Page(html.parser.HTMLParser):
    """What a browser would show, and what it would fetch."""

    def __init__(self, path: Path):
        super().__init__()
        self.text, self.links, self.images, self.marked, self.open = "", [], [], [], []
        self.ids, self.named = [], set()
        self.scripts, self.data = [], {}  # JavaScript; and what its JSON holds, by id
        self._attributes = {}
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        values = self._attributes = dict(attributes)
        self.links += [values[name] for name in ("src", "href") if name in values]
        self.ids += [values["id"]] if "id" in values else []
        self.named |= {name for key in _REFERENCES for name in (values.get(key) or "").split()}
        if tag == "img":
            self.images.append(values["alt"])
        if tag not in ("meta", "img", "br", "input", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self.open and self.open[-1] == "mark":
            self.marked.append(data)
        if self.open and self.open[-1] == "script":
            if self._attributes.get("type") == "application/json":
                self.data[self._attributes["id"]] = json.loads(data)
            else:
                self.scripts.append(data)

    def check(self, folder: Path) -> None:
        """Ids are unique, and everything that links, labels and scripts name is there."""
        assert len(set(self.ids)) == len(self.ids)
        wanted = set(re.findall(r"""(?:getElementById|\$)\("([\w-]+)"\)""", "".join(self.scripts)))
        made = set(re.findall(r"""\bid: "([\w-]+)\"""", "".join(self.scripts)))  # by the script itself
        inside = {link[1:] for link in self.links if link.startswith("#")}
        lacking = (wanted | inside | self.named) - set(self.ids) - made
        assert not lacking - (set() if "reference" in self.ids else set(_OF_PAIRS)), lacking
        assert all((folder / link).is_file() for link in self.links if not link.startswith(("#", "data:")))
