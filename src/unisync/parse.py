"""TOML files as frozen dataclasses: names and kinds are checked, and what is wrong is said with its place.

Floor 1: nothing here knows what the values are for.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from unisync.errors import OptionError

WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a TOML file holds. Raises OptionError that names the file."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise OptionError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OptionError(f"{path}: is not TOML ({error})") from error


def made(cls: type[Any], values: Mapping[str, Any], where: str = "") -> Any:
    """Return a dataclass from a table. where: the table's own name with a dot, for messages. Raises OptionError."""
    types = get_type_hints(cls)
    known = [item.name for item in fields(cls)]
    clean: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise OptionError(f"there is no {where + key!r}{suggest(key, known)}")
        clean[key] = fitted(types[key], value, f"{where}{key}")
    for item in fields(cls):
        if item.name not in clean and item.default is MISSING and item.default_factory is MISSING:
            choices = get_args(types[item.name]) if get_origin(types[item.name]) is Literal else ()
            raise OptionError(f"{where}{item.name} is missing{': one of ' if choices else ''}{', '.join(choices)}")
    return cls(**clean)


def fitted(hint: Any, value: Any, where: str) -> Any:
    """Return a value as the hint wants it: a whole number does for a float, text for a path, a list for a tuple."""
    choices = get_args(hint)
    if type(None) in choices:
        return None if value is None else fitted(choices[0], value, where)
    if is_dataclass(hint):
        if isinstance(value, hint):  # type: ignore[arg-type]
            return value
        if not isinstance(value, dict):
            raise OptionError(f"{where} must be a table, [{where}]")
        return made(hint, value, f"{where}.")  # type: ignore[arg-type]
    if get_origin(hint) is Literal:
        if value not in choices:
            near = suggest(value, choices) if isinstance(value, str) else ""
            raise OptionError(f"{where} must be one of {', '.join(choices)}, not {value!r}{near}")
        return value
    if get_origin(hint) is tuple:
        many = choices[-1] is ...
        if not isinstance(value, list | tuple) or (not many and len(value) != len(choices)):
            raise OptionError(f"{where} must be a list{'' if many else f' of {len(choices)}'}, not {value!r}")
        kinds = [choices[0]] * len(value) if many else choices
        return tuple(fitted(kind, item, where) for kind, item in zip(kinds, value, strict=True))
    if get_origin(hint) is not None:  # a mapping, whose values are its owner's business
        if not isinstance(value, Mapping):
            raise OptionError(f"{where} must be a table, not {value!r}")
        return value
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise OptionError(f"{where} must be {WORDS.get(hint, 'a path')}, not {value!r}")
    return value


def suggest(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the nearest known name, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
