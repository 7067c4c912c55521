"""An evaluation for people: OUT/report.html to look at, OUT/rate.html to rate the films by eye and ear.

Both are static pages that need nothing but the folder they lie in: no network, no library, the same bytes each time.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from unisync.bench.sheet import Curve, Sheet, number, page, plots, table, tag, text
from unisync.bench.suite import ALL_CLIPS, Protocol
from unisync.errors import OptionError
from unisync.parse import made

MAIN = (
    "follows", "leak", "expert_confidence", "lip_leak", "silence_share", "csim", "mouth_likeness", "lse_c_tracked",
    "outside_mask", "sharpness", "ssim",
)  # fmt: skip
NUM_MAIN = 4
"""Figures that stand under a film, the first of MAIN that there are; all of them stand in a table below."""
PLOTS = (
    "Plots show how far lips are open over time. Made: the film itself. Source: the old lips, which should leave no trace. "
    "Spoken: the lips of the film that the speech is from. The band below is how loud the sound is."
)


@dataclass(frozen=True, kw_only=True)
class _About:
    suite: str
    seed: int
    version: str
    python: str
    torch: str
    weights: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Cell:
    protocol: Protocol
    clip: str
    method: str
    status: Literal["finished", "failed", "skipped"] = "finished"
    tags: tuple[str, ...] = ()
    speech: str = ""
    problem: str = ""
    out: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """The id of its section, which is its address behind # too."""
        return quote(f"{self.protocol}/{self.clip}")

    @property
    def source(self) -> str:
        """Where its source film may lie."""
        return f"films/source/{self.clip}.mp4"


@dataclass(frozen=True, kw_only=True)
class _Answer:
    method: str
    protocol: str
    clip: str
    in_sync: bool
    acceptable: bool


@dataclass(frozen=True, kw_only=True)
class _Ratings:
    rater: str
    suite: str
    answers: tuple[_Answer, ...]


def write_report(out: Path, tables: Sequence[Sheet]) -> Path:
    """Write OUT/report.html and OUT/rate.html from what an evaluation left there, and return the first.

    Raises OptionError for a file of the evaluation that is missing or damaged.
    """
    about: _About = _parsed(_fitting(_About), _words(out / "about.json"), str(out / "about.json"))
    cells = _read_cells(out / "results.jsonl")
    path = out / "report.html"
    path.write_text(_report(out, about, cells, tables), "utf-8")
    (out / "rate.html").write_text(_rate(out, about, cells), "utf-8")
    return path


def read_ratings(paths: Iterable[Path]) -> dict[tuple[str, str, str], tuple[int, int]]:
    """Return, by (method, protocol, clip), how many raters said yes to both questions and how many rated.

    A rater counts once; where two of the files answer for the same film, the later does. Raises OptionError for a
    damaged file, and for ratings of two suites.
    """
    votes: dict[tuple[str, str, str], dict[str, bool]] = {}
    suite: str | None = None
    for path in paths:
        found: _Ratings = _parsed(_fitting(_Ratings), _words(path), str(path), "save it again from rate.html")
        if suite not in (None, found.suite):
            raise OptionError(f"{path}: rates the suite {found.suite!r}, files before it {suite!r}; give those of one")
        suite = found.suite
        for each in found.answers:
            cell = votes.setdefault((each.method, each.protocol, each.clip), {})
            cell[found.rater] = each.in_sync and each.acceptable
    return {cell: (sum(by_rater.values()), len(by_rater)) for cell, by_rater in votes.items()}


def _read_cells(path: Path) -> list[_Cell]:
    """Return the cells in the file's order; of two lines for one cell the later holds."""
    cells: dict[tuple[str, str, str], _Cell] = {}
    fitting = _fitting(_Cell)
    for at, line in enumerate(_words(path).splitlines(), 1):
        cell: _Cell = _parsed(fitting, line, f"{path}: line {at}")
        cells[cell.protocol, cell.clip, cell.method] = cell
    return list(cells.values())


def _read_curve(out: Path, cell: _Cell) -> Curve | None:
    path = out / "curves" / cell.method / cell.protocol / f"{cell.clip}.json"
    if cell.status != "finished" or not path.is_file():
        return None
    curve: Curve = _parsed(Curve.of, _words(path), str(path))
    return curve


def _words(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"{path}: cannot be read ({error}); name what an evaluation left") from error


def _fitting(cls: type[Any]) -> Callable[[dict[str, Any]], Any]:
    """Return what makes a dataclass of names and values; those it does not know are left out, newer writers say more."""
    known = {item.name for item in fields(cls)}
    return lambda values: made(cls, {name: value for name, value in values.items() if name in known})


def _parsed(
    build: Callable[[dict[str, Any]], Any], words: str, where: str, remedy: str = "run the evaluation again"
) -> Any:
    """Return what is built from JSON. where, remedy: for the message of what is damaged."""
    try:
        values = json.loads(words)
        if not isinstance(values, dict):
            raise OptionError("it holds no names and values")
        return build(values)
    except (ValueError, RecursionError, OptionError) as error:
        raise OptionError(f"{where}: is damaged ({error}); {remedy}") from error


def _report(out: Path, about: _About, cells: list[_Cell], tables: Sequence[Sheet]) -> str:
    films = [cell for cell in cells if cell.clip != ALL_CLIPS]
    sections: dict[str, list[_Cell]] = {}
    for cell in films:
        sections.setdefault(cell.place, []).append(cell)
    title = f"Evaluation: {about.suite}"
    return page(
        title,
        _own("page.css") + _own("report.css"),
        _own("report.js"),
        tag("h1", text(title)),
        _about(about),
        _contents(tables, list(sections.values())),
        *(_sheet(at, sheet) for at, sheet in enumerate(tables, 1)),
        _outcome(cells),
        _filters(films),
        *(_section(out, at, group) for at, group in enumerate(sections.values(), 1)),
    )


def _about(about: _About) -> str:
    facts = f"UniSync {about.version}, Python {about.python}, torch {about.torch}, seed {about.seed}."
    sums = [(name, str(about.weights[name])) for name in sorted(about.weights)]
    num_missing = sum(value == "missing" for _, value in sums)
    weights = f"Weights: {len(sums) - num_missing} there, {num_missing} missing"
    return (
        tag("p", text(facts), " ", tag("a", "Rate the films", href="rate.html"), " by eye and ear.")
        + (tag("details", tag("summary", weights), table(("file", "sha256"), sums), class_="sums") if sums else "")
        + "\n"
    )


def _contents(tables: Sequence[Sheet], sections: Sequence[list[_Cell]]) -> str:
    links = [(f"table-{at}", sheet.title) for at, sheet in enumerate(tables, 1)]
    links += [("outcome", "Finished and failed"), ("clips", "Clips")]
    items = [tag("li", _link(place, words)) for place, words in links]
    for protocol, group in _by_protocol(cells[0] for cells in sections):
        heads = [tag("li", _link(cell.place, cell.clip)) for cell in group]
        items.append(tag("li", tag("details", tag("summary", f"Clips, {protocol}: {len(heads)}"), tag("ul", *heads))))
    return tag("nav", tag("ul", *items), aria_label="Contents") + "\n"


def _link(place: str, words: str) -> str:
    return tag("a", text(words), href=f"#{place}")


def _note(words: str) -> str:
    return tag("p", text(words), class_="note") if words else ""


def _sheet(at: int, sheet: Sheet) -> str:
    return tag(
        "section", tag("h2", text(sheet.title)), table(sheet.columns, sheet.rows), _note(sheet.note), id=f"table-{at}"
    )


def _outcome(cells: Sequence[_Cell]) -> str:
    """Return how many cells finished and failed, why they failed, and the figures of all clips together."""
    films = [cell for cell in cells if cell.clip != ALL_CLIPS]
    together = [cell for cell in cells if cell.clip == ALL_CLIPS]
    protocols = list(dict.fromkeys(cell.protocol for cell in films))
    rows = []
    for method in dict.fromkeys(cell.method for cell in films):
        own = [[cell.status for cell in films if (cell.method, cell.protocol) == (method, each)] for each in protocols]
        rows.append((method, *(f"{statuses.count('finished')} / {len(statuses)}" for statuses in own)))
    num = Counter(cell.status for cell in films)
    said = f"{num['finished']} of {len(films)} films were made, {num['failed']} failed, {num['skipped']} were skipped."
    inside = [
        tag("h2", "Finished and failed"),
        tag("p", f"{said} Made of those that were wanted:"),
        table(("method", *protocols), rows),
        _problems("failed", cells),
        _problems("skipped", cells),
    ]
    inside += [_all_figures(group, f"all clips, {protocol}") for protocol, group in _by_protocol(together)]
    return tag("section", *inside, id="outcome") + "\n"


def _by_protocol(cells: Iterable[_Cell]) -> list[tuple[str, list[_Cell]]]:
    """Return cells by protocol, as they stand in a result file."""
    return [(name, list(group)) for name, group in groupby(cells, lambda cell: cell.protocol)]


def _problems(status: str, cells: Sequence[_Cell]) -> str:
    """Return why cells failed or were skipped; failures stand open."""
    lines = []
    for cell in cells:
        if cell.status == status:
            clip = "all clips" if cell.clip == ALL_CLIPS else _link(cell.place, cell.clip)
            lines.append(tag("li", text(f"{cell.method}, {cell.protocol}, "), clip, text(f": {cell.problem}")))
    summary = tag("summary", f"{status.capitalize()}: {len(lines)}")
    return tag("details", summary, tag("ul", *lines, class_="problems"), open=status == "failed") if lines else ""


def _filters(films: Sequence[_Cell]) -> str:
    """Return the heading of the clips, what their plots show, and what chooses among them."""
    names: dict[str, Iterable[str]] = {
        "protocol": dict.fromkeys(cell.protocol for cell in films),
        "tag": sorted({each for cell in films for each in cell.tags}),
        "method": dict.fromkeys(cell.method for cell in films),
    }
    chosen = (
        tag("label", f"{what} ", tag("select", _option("", "all"), *map(_option, each, each), id=f"by-{what}"))
        for what, each in names.items()
    )
    return (
        tag("h2", "Clips", id="clips")
        + _note(PLOTS)
        + tag("div", *chosen, tag("output", id="shown"), class_="bar")
        + tag("noscript", tag("p", "Clips open with JavaScript only: allow it for this file.", class_="bad"))
        + "\n"
    )


def _option(value: str, words: str) -> str:
    return tag("option", text(words), value=value)


def _section(out: Path, at: int, cells: Sequence[_Cell]) -> str:
    """Return all films of one clip under one protocol beside each other, closed until somebody opens it."""
    head = cells[0]
    shared, drawn = plots(f"s{at}", [_read_curve(out, cell) for cell in cells])
    names = [name for name in MAIN if any(isinstance(cell.figures.get(name), float | int) for cell in cells)]
    heard = [("", "nobody")]
    figures = []
    if (out / head.source).is_file():
        heard.append(("0", "source"))
        figures.append(tag("figure", tag("h4", "source"), _film(head.source, 0)))
    for who, (cell, plot) in enumerate(zip(cells, drawn, strict=True), 1):
        heard.append((str(who), cell.method))
        if cell.status != "finished":
            inside = [tag("p", text(f"{cell.status.capitalize()}: {cell.problem}"), class_="lack")]
        elif cell.out and (out / cell.out).is_file():
            inside = [_film(cell.out, who), _under(cell, names[:NUM_MAIN]), plot]
        else:
            lack = tag("p", text(f"The film is missing: {cell.out or 'none is named'}"), class_="lack")
            inside = [lack, _under(cell, names[:NUM_MAIN]), plot]
        figures.append(tag("figure", tag("h4", text(cell.method)), *inside, data_method=cell.method))
    num_finished = sum(cell.status == "finished" for cell in cells)
    summary = tag(
        "summary",
        tag("b", text(head.clip)),
        tag("span", f"{head.protocol}, speech: {text(head.speech)}"),
        *(tag("i", text(each)) for each in head.tags),
        tag("span", f"{num_finished} of {len(cells)} made", class_=False if num_finished == len(cells) else "bad"),
    )
    button = tag("button", "Play all from the start", type="button", class_="play")
    hear = tag("label", "heard: ", tag("select", *(_option(*each) for each in heard)))
    bar = tag("div", button, hear, class_="bar")
    # A template is no part of the page until it is opened: thousands of films would take a browser a minute.
    content = tag("template", bar, shared, tag("div", *figures, class_="row"), _all_figures(cells, "this clip"))
    marks = {
        "id": head.place,
        "data-protocol": head.protocol,
        "data-tags": json.dumps(head.tags),
        "data-methods": json.dumps([cell.method for cell in cells]),
    }
    return tag("details", summary, content, class_="clip", **marks) + "\n"


def _film(path: str, who: int) -> str:
    return tag("video", src=quote(path), preload="none", muted=True, controls=True, playsinline=True, data_who=who)


def _under(cell: _Cell, names: Sequence[str]) -> str:
    """Return the main figures of a film and whether it is as long as it should be."""
    lines = (tag("div", tag("dt", text(name)), tag("dd", text(number(cell.figures.get(name))))) for name in names)
    facts = cell.facts
    said = [
        tag("span", text(f"{words} {'exact' if exact else 'not exact'}"), class_=False if exact else "bad")
        for words, exact in (
            (f"{facts.get('frames', 'frames')} frames,", facts.get("frames_exact")),
            ("length", facts.get("length_exact")),
        )
        if exact is not None
    ]
    return tag("dl", *lines) + tag("p", "; ".join(said), class_="note")


def _all_figures(cells: Sequence[_Cell], what: str) -> str:
    """Return a closed table of all figures, the methods side by side."""
    names = list(dict.fromkeys(name for cell in cells for name in cell.figures))
    rows = [(name, *(number(cell.figures.get(name)) for cell in cells)) for name in names]
    found = table(("figure", *(cell.method for cell in cells)), rows)
    return tag("details", tag("summary", f"Figures of {what}: {len(names)}"), found) if names else ""


def _rate(out: Path, about: _About, cells: Sequence[_Cell]) -> str:
    """Return the page on which people rate. Films are told apart by their size too, so that no answer outlives its film."""
    finished = [cell for cell in cells if cell.status == "finished" and cell.clip != ALL_CLIPS]
    there = [cell for cell in finished if cell.out and (out / cell.out).is_file()]
    films = [
        {
            "method": cell.method,
            "protocol": cell.protocol,
            "clip": cell.clip,
            "film": quote(cell.out),
            "source": quote(cell.source) if (out / cell.source).is_file() else "",
            "size": (out / cell.out).stat().st_size,
        }
        for cell in there
    ]
    data = json.dumps({"suite": about.suite, "cells": films}, indent=0)
    for sign in "<>&":
        data = data.replace(sign, f"\\u{ord(sign):04x}")
    lack = f"Missing, and not to be rated: {len(finished) - len(there)} films." if len(finished) > len(there) else ""
    return page(
        f"Rate: {about.suite}",
        _own("page.css") + _own("rate.css"),
        _own("rate.js"),
        tag("h1", text(f"Rate: {about.suite}")),
        _note(lack),
        _own("rate.html"),
        f'<script type="application/json" id="cells">{data}</script>\n',
    )


def _own(name: str) -> str:
    """Return a file that comes with the package."""
    return (files("unisync") / "data" / name).read_text("utf-8")
