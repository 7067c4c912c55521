"""The three doors: method, backbone and metric by name, through entry points; ours are listed in the same way.

Nothing is imported until it is asked for by name.
"""

from __future__ import annotations

import difflib
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from unisync.errors import OptionError

Door = Literal["method", "backbone", "metric"]


def names(door: Door) -> list[str]:
    """Return the names behind a door, sorted, importing none of them."""
    return sorted({point.name for point in _points(door)})


def load(door: Door, name: str) -> Any:
    """Return the class of that name. Raises OptionError if it is unknown or does not import."""
    point = next((point for point in _points(door) if point.name == name), None)
    if point is None:
        known = names(door)
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise OptionError(f"there is no {door} {name!r}{hint} (known: {', '.join(known) or 'none'})")
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise OptionError(f"the {door} {name!r} ({point.value}) cannot be imported: {error}") from error


def _points(door: Door) -> list[EntryPoint]:
    return list(entry_points(group=f"unisync.{door}s"))
