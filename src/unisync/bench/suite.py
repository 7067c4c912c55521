"""A suite: which films are given which speech, by which methods, and what is measured; a TOML file and its dataclasses."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

import tomli_w

from unisync.errors import OptionError
from unisync.options import DubOptions
from unisync.parse import made, read_toml

Protocol = Literal["self", "cross", "silent"]
Kind = Literal["unisync", "copy", "folder", "command"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
STILLS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
FILMS = (
    *(".mp4", ".mkv", ".mov", ".webm", ".flv", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv"),
    *(".ogv", ".3gp", ".mxf", ".vob", ".gif"),
)
SOUNDS = (".wav", ".flac", ".mp3", ".m4a", ".ogg", ".opus", ".aac")
"""Where a film has several of the same stem, the first of these is its speech."""
SUFFIXES = {"film": FILMS + STILLS, "speech": SOUNDS + FILMS, "truth": FILMS}
ALL_CLIPS = "*"
"""The clip of a result whose figures are of all clips together."""
PLACES = ("film", "speech", "out")
"""What a command's template may name."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One film to dub.

    speech: what it is given under the protocol cross, any file with sound; without it the next clip's that is not of
    the same film.  truth: a film of the same face saying that speech, where there is one.  tags: what it stands for.
    """

    film: Path
    name: str
    speech: Path | None = None
    truth: Path | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """One method of the suite.

    unisync: dubbed by this package with `options` of `dub` (method = "echo" is its plumbing alone).  copy: the film's own
    picture with the speech, `shift` seconds late (what comes off the end goes to the beginning): under self it is the truth,
    shifted a film out of sync.  folder: films made elsewhere, FOLDER/PROTOCOL/CLIP.mp4 or FOLDER/CLIP.mp4 where the suite has
    one protocol.  command: a program that writes {out} from {film} and {speech}.
    """

    name: str
    kind: Kind
    options: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    command: str = ""
    shift: float = 0.0

    def __post_init__(self) -> None:
        wanted = {"folder": self.folder is not None, "command": bool(self.command)}
        for kind, given in wanted.items():
            if given != (self.kind == kind):
                raise OptionError(f"method {self.name!r} of kind {self.kind!r}: {kind} goes with kind {kind!r} alone")
        if self.shift and self.kind != "copy":
            raise OptionError(f"method {self.name!r}: shift goes with kind 'copy' alone")
        if self.options and self.kind != "unisync":
            raise OptionError(f"method {self.name!r}: options go with kind 'unisync' alone")
        self.dub_options()
        try:
            self.words(dict.fromkeys(PLACES, ""))
        except (KeyError, IndexError, ValueError) as error:
            raise OptionError(
                f"method {self.name!r}: its command names {error}; it may name {{film}}, {{speech}} and {{out}}"
            ) from error

    def dub_options(self) -> DubOptions:
        """Return what `dub` is given. Raises OptionError for what it does not know."""
        return DubOptions.from_dict(dict(self.options))

    def words(self, places: Mapping[str, str]) -> list[str]:
        """Return the command's words, its places filled in."""
        return [word.format(**places) for word in shlex.split(self.command)]


OURS = (
    Entrant(name="copy", kind="copy"),
    Entrant(name="echo", kind="unisync", options={"method": "echo"}),
    Entrant(name="unisync", kind="unisync"),
)
"""The methods of a suite that names none."""


@dataclass(frozen=True, kw_only=True)
class Suite:
    """clips x methods x protocols.  metrics: names behind the metric door; none means all.

    seconds: how much of each film is taken, 0 all of it.  only_where_all_finished: quality is averaged over the clips
    that every method finished, as papers do.
    """

    name: str
    clips: tuple[Clip, ...]
    methods: tuple[Entrant, ...] = OURS
    protocols: tuple[Protocol, ...] = PROTOCOLS
    metrics: tuple[str, ...] = ()
    seconds: float = 0.0
    seed: int = 0
    only_where_all_finished: bool = False

    def __post_init__(self) -> None:
        for what, named in (("clips", self.clips), ("methods", self.methods)):
            names = [each.name for each in named]
            if not names:
                hint = ": name them as [[clip]], or give a folder with --films" if what == "clips" else ""
                raise OptionError(f"a suite needs {what}{hint}")
            double = next((name for name in names if names.count(name) > 1), None)
            if double is not None:
                raise OptionError(f"two {what} are called {double!r}; give one another name")
            bad = next((name for name in names if not name or "/" in name or name.startswith(".")), None)
            if bad is not None:
                raise OptionError(f"{bad!r} cannot be a name among the {what}: files are named after it")
        if not self.protocols:
            raise OptionError("a suite needs protocols: self, cross, silent, or some of them")

    def speech_of(self, clip: Clip, protocol: Protocol) -> Path | None:
        """Return whose sound a clip is given; None is silence. Raises OptionError where nobody else speaks."""
        if protocol == "silent":
            return None
        if protocol == "self":
            return clip.film
        if clip.speech is not None:
            return clip.speech
        at = self.clips.index(clip)
        ring = (*self.clips[at + 1 :], *self.clips[:at])
        other = next((each.film for each in ring if each.film != clip.film), None)
        if other is None:
            raise OptionError(f"clip {clip.name!r} has no speech of another film: name one as its speech")
        return other

    def cells(self) -> Iterator[tuple[Protocol, Clip, Entrant]]:
        """Yield what is to be made, in the order of the result file."""
        for protocol in self.protocols:
            for clip in self.clips:
                for method in self.methods:
                    yield protocol, clip, method


def read_suite(path: Path, films: tuple[Clip, ...] = ()) -> Suite:
    """Read a suite; files in it are named from its own folder. Raises OptionError that names the file and what is wrong.

    films: the clips of a suite that names none.
    """
    values = {"name": path.stem, **read_toml(path)}
    try:
        clips = tuple(_clip(each, path.parent) for each in _tables(values, "clip"))
        if clips and films:
            raise OptionError("the suite names its own clips, and a folder of films is given: leave out one of them")
        clips = clips or films
        methods = tuple(made(Entrant, _placed(each, path.parent), "method.") for each in _tables(values, "method"))
        suite: Suite = made(Suite, values | {"clips": clips} | ({"methods": methods} if methods else {}))
    except OptionError as error:
        raise OptionError(f"{path}: {error}") from error
    return suite


def write_suite(suite: Suite, path: Path) -> None:
    """Write a suite that `read_suite` reads back; files are named from its folder where they lie below it."""
    base = path.parent.resolve()

    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            whole = value.resolve()
            return str(whole.relative_to(base)) if whole.is_relative_to(base) else str(whole)
        return list(value) if isinstance(value, tuple) else value

    def table(made: Clip | Entrant | Suite) -> dict[str, Any]:
        values = ((item.name, getattr(made, item.name)) for item in fields(made))
        return {name: plain(value) for name, value in values if value or name == "name"}

    whole = table(suite)
    rows = {"clip": whole.pop("clips"), "method": whole.pop("methods")}
    text = tomli_w.dumps(whole | {title: [table(each) for each in made] for title, made in rows.items()})
    path.write_text(text, "utf-8")


def _clip(values: dict[str, Any], folder: Path) -> Clip:
    """Return a clip, named after its film where it has no name."""
    placed = _placed(values, folder)
    if isinstance(placed.get("film"), Path):
        placed.setdefault("name", placed["film"].stem)
    clip: Clip = made(Clip, placed, "clip.")
    return clip


def _tables(values: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = values.pop(name, [])
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise OptionError(f"{name} must be tables, [[{name}]]")
    return found


def _placed(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return values with files as paths from the suite's folder."""
    files = ("film", "speech", "truth", "folder")
    return {
        name: folder / value if name in files and isinstance(value, str) else value for name, value in values.items()
    }
