"""The three doors."""

from __future__ import annotations

import subprocess
import sys

import pytest

from unisync.errors import OptionError
from unisync.registry import Door, load, names


def test_ours_are_listed_and_import() -> None:
    assert {"echo", "unisync"} <= set(names("method"))
    assert "mini" in names("backbone")
    for door in ("method", "backbone", "metric"):
        for name in names(door):
            assert callable(load(door, name))


@pytest.mark.parametrize(
    ("door", "name", "words"), [("method", "ehco", "did you mean 'echo'"), ("metric", "x", "known:")]
)
def test_an_unknown_name_lists_the_known_ones(door: Door, name: str, words: str) -> None:
    with pytest.raises(OptionError, match=f"no {door} '{name}'.*{words}"):
        load(door, name)


def test_listing_names_imports_nothing() -> None:
    code = "import sys; from unisync.registry import names; names('method'); sys.exit('unisync.methods' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
