"""The documents: the command line's page is current, links lead somewhere, every room has its line."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)")
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


def test_the_command_lines_page_is_current() -> None:
    from make_cli_page import PAGE, page

    assert PAGE.read_text("utf-8") == page(), "run: make docs"


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in LINK.findall(COMMENT.sub("", path.read_text("utf-8"))):
        assert "://" in target or (path.parent / target).exists(), target


def test_every_room_has_a_line_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    for entry in (ROOT / "src" / "unisync").iterdir():
        if entry.is_dir() and not entry.name.startswith("__"):
            assert f"{entry.name}/" in text, entry.name
        elif entry.suffix == ".py" and not entry.name.startswith("__"):
            assert entry.name in text, entry.name


def test_decisions_fit_on_a_page() -> None:
    for path in (ROOT / "docs" / "adr").glob("[0-9]*.md"):
        assert re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", path.name)
        assert len(path.read_text("utf-8").splitlines()) <= 40, path.name


def test_constraints_are_names_and_versions_only() -> None:
    for path in (ROOT / "constraints").glob("*.txt"):
        lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
        assert lines
        for line in lines:
            assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line), line
    assert "torch==2.13.0" in (ROOT / "constraints" / "all.txt").read_text("utf-8").splitlines()
