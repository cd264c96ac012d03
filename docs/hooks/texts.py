"""Texts of the root folder as pages of the site; the decisions in the navigation; links that leave `docs/`.

The same Markdown is read in the repository and on the site. A link from `docs/` to a file outside it has no page on
the site, so it becomes plain text there; links between the root folder's texts and `docs/` are made to fit.
"""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGES = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security-policy.md"}
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)\s]+)\)")


def records() -> list[Path]:
    """The decisions, by number."""
    return sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))


def on_config(config: Any) -> Any:
    """Fill the navigation's entry `Decisions`."""
    decisions = next(entry for entry in config.nav if "Decisions" in entry)
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in records()]
    decisions["Decisions"] = ["decisions/index.md", *pages]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the root folder's texts to the site."""
    from mkdocs.structure.files import File

    for name, page in PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=re.sub(r"\]\((?!https?:|#)", "](../", text)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Make the links of a page fit the site."""
    folder = Path("docs", page.file.src_uri).parent
    return LINK.sub(lambda link: _on_site(link[0], link[1], link[2], folder), markdown)


def _on_site(whole: str, text: str, target: str, folder: Path) -> str:
    path, _, anchor = target.partition("#")
    parts: list[str] = []
    for part in (folder / path).parts:
        parts = parts[:-1] if part == ".." else [*parts, part]
    place, up = "/".join(parts), "../" * (len(folder.parts) - 1)
    anchor = f"#{anchor}" if anchor else ""
    if place in PAGES:
        return f"[{text}]({up}{PAGES[place]}{anchor})"
    if place.startswith("conf/"):
        return f"[{text}]({up}configuration.md)"
    if place == "README.md":
        return f"[{text}]({up}index.md)"
    if place.startswith("docs/"):
        return f"[{text}]({up}{place.removeprefix('docs/')}{anchor})"
    return whole if not path else text if text.startswith("`") else f"`{text}`"
