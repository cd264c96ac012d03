"""Reading an HTML page."""

import html.parser
from pathlib import Path


class Page(html.parser.HTMLParser):
    """What a browser would show, and what it would fetch."""

    def __init__(self, path: Path):
        super().__init__()
        self.text, self.links, self.images, self.marked, self.open = "", [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.links += [values[name] for name in ("src", "href") if name in values]
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
