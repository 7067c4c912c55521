"""The site: built without a warning, every public name described, whether pages are there or not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import unisync

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    call = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(call, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder


def test_every_public_name_has_its_entry(site: Path) -> None:
    page = (site / "api.html").read_text("utf-8")
    for name in unisync.__all__:
        assert f">{name}<" in page, name


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for name in ("index.html", "tutorial.html", "howto/comfyui.html"):
        page = (site / name).read_text("utf-8")
        assert 'src="http' not in page and '<link href="http' not in page and "fonts." not in page
    assert "Three nodes" in (site / "howto" / "comfyui.html").read_text("utf-8")


def test_pages_that_are_not_there_leave_the_navigation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")
    from site_hooks import on_config

    (tmp_path / "adr").mkdir()
    for name in ("a.md", "adr/0001-x.md"):
        (tmp_path / name).touch()
    nav = [{"Home": "a.md"}, {"Inside": [{"One": "a.md"}, {"Two": "b.md"}]}]
    assert on_config({"docs_dir": str(tmp_path), "nav": nav})["nav"] == [
        {"Home": "a.md"},
        {"Inside": [{"One": "a.md"}, {"Each decision": ["adr/0001-x.md"]}]},
    ]
