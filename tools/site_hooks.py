"""What MkDocs does for us beside itself: pages that are not there leave the navigation, links out of docs/ become names.

The documents are read in the repository too, where a link to a source file leads somewhere; on the site it does not.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(((?!\w+:)[^)#\s]+)(#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """Drop what the navigation names and docs/ has not (yet); decisions are listed as they are found."""
    docs = Path(config["docs_dir"])
    config["nav"] = _there(config["nav"], docs)
    decisions = sorted(path.relative_to(docs).as_posix() for path in (docs / "adr").glob("[0-9]*.md"))
    inside = next(entry["Inside"] for entry in config["nav"] if "Inside" in entry)
    inside.insert(2, {"Each decision": decisions})
    return config


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links that leave docs/ into the path they name; those to the README lead to the first page."""
    here = ROOT / "docs" / Path(page.file.src_uri).parent

    def named(link: re.Match[str]) -> str:
        target = (here / link[2]).resolve()
        if target.is_relative_to(ROOT / "docs"):
            return link[0]
        path = target.relative_to(ROOT).as_posix()
        words = link[1].strip("`")
        return f"`{path}`" if words.rstrip("/") in path else f"{link[1]} (`{path}`)"

    return LINK.sub(named, markdown)


def _there(entries: list[Any], docs: Path) -> list[Any]:
    kept = []
    for entry in entries:
        ((title, what),) = entry.items()
        if isinstance(what, list):
            kept.append({title: _there(what, docs)})
        elif (docs / what).is_file():
            kept.append(entry)
    return kept
