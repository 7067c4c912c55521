"""Options as ComfyUI's widgets, and what widgets say as options. A new option is a new widget without a word here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal, TypeVar, get_args, get_origin

from unisync import DubOptions, OptionError, ScanOptions
from unisync.options import hints

UNSET = "default"
"""What a list shows for None; a text shows nothing."""
SHOWN = ("face", "box", "strength", "seed", "when_longer", "when_shorter", "min_face")
"""The others are under "advanced"."""
LIMITS: dict[str, dict[str, Any]] = {
    "INT": {"min": 0, "max": 2**53 - 1},
    "FLOAT": {"min": 0.0, "max": 1e6, "step": 0.05, "round": False},
}
"""Of the widgets; what an option may be is checked, and told, by itself."""

Widget = tuple[Any, dict[str, Any]]
Chosen = TypeVar("Chosen", DubOptions, ScanOptions)


def widgets(options: type[DubOptions] | type[ScanOptions], without: frozenset[str] = frozenset()) -> dict[str, Widget]:
    """Return a widget for every option, in their order."""
    types = hints(options)
    return {
        item.name: _widget(types[item.name], item.default, {"tooltip": item.metadata["help"]} | _place(item.name))
        for item in fields(options)
        if item.name not in without
    }


def chosen(options: type[Chosen], values: Mapping[str, Any], **more: Any) -> Chosen:
    """Return the options that the widgets say; None is a widget whose value comes by a link. Raises OptionError."""
    types = hints(options)
    said = {name: _value(types[name], value, name) for name, value in values.items() if value is not None}
    return options.from_dict({**said, **more})


def _place(name: str) -> dict[str, Any]:
    return {} if name in SHOWN else {"advanced": True}


def _widget(hint: Any, default: Any, about: dict[str, Any]) -> Widget:
    choices, optional = _choices(hint)
    if choices:
        return [UNSET] * optional + choices, {"default": UNSET if default is None else default, **about}
    if optional or hint is str:
        return "STRING", {"default": "" if default is None else default, **about}
    kind = {bool: "BOOLEAN", int: "INT", float: "FLOAT"}[hint]
    return kind, {"default": default, **LIMITS.get(kind, {}), **about}


def _choices(hint: Any) -> tuple[list[str], bool]:
    """Return the words to choose from, if it is such a thing, and whether it may be None."""
    inner = get_args(hint)
    optional = type(None) in inner
    kind = inner[0] if optional else hint
    if kind is bool and optional:
        return ["yes", "no"], True
    return list(get_args(kind)) if get_origin(kind) is Literal else [], optional


def _value(hint: Any, value: Any, name: str) -> Any:
    inner = get_args(hint)
    if type(None) not in inner or not isinstance(value, str):
        return value
    if value.strip() in ("", UNSET):
        return None
    if inner[0] is bool:
        return value == "yes"
    if inner[0] in (int, float):
        try:
            return inner[0](value)
        except ValueError:
            raise OptionError(f"{name} must be a number, or nothing, not {value!r}") from None
    return value
