"""What pages are made of: tables of finished words, elements of HTML that are closed and escaped, plots of lips over time."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unisync.errors import OptionError

Line = tuple[float | None, ...]

# Plots, in units of one pixel at the usual size.
WIDE, LEFT, RIGHT = 300, 36, 292
TOP, BASE, BAND, FOOT, HIGH = 18, 98, 104, 122, 146
STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800)
NUM_TICKS = 6
OPENING_STEP = 0.05
NO_CURVE = "No curve of the lips."


@dataclass(frozen=True)
class Sheet:
    """A table whose cells are already words.

    columns: the headings, the first that of the rows' names.  rows: as many cells each as there are columns.  note: what
    stands below it.  Raises ValueError for a row that is too short or too long.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str

    def __post_init__(self) -> None:
        uneven = next((row for row in self.rows if len(row) != len(self.columns)), None)
        if uneven is not None:
            raise ValueError(f"{self.title}: {len(uneven)} cells under {len(self.columns)} headings, {uneven}")


@dataclass(frozen=True, kw_only=True)
class Curve:
    """How far lips are open, in sides of the canvas, and how loud the sound is, 0 to 1. None: no face in that frame.

    opening: of the film that was made; source: of its source; spoken: of the film that the speech is from.
    """

    seconds: tuple[float, ...]
    opening: Line
    source: Line
    spoken: Line | None = None
    loudness: Line | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Curve:
        """Return a curve from what a JSON file holds. Raises OptionError."""
        lines = {name: values.get(name) for name in ("seconds", "opening", "source", "spoken", "loudness")}
        for name, line in lines.items():
            if line is None and name in ("spoken", "loudness"):
                continue
            if not isinstance(line, list) or not {type(value) for value in line} <= {int, float, type(None)}:
                raise OptionError(f"{name} must be a list of numbers")
            if len(line) != len(lines["seconds"] or ()):
                raise OptionError(f"{name} is not as long as seconds")
        if None in (lines["seconds"] or ()):
            raise OptionError("seconds must be numbers")
        return cls(**{name: None if line is None else tuple(line) for name, line in lines.items()})  # type: ignore[arg-type]


def text(words: object) -> str:
    """Return words as HTML."""
    return html.escape(str(words))


def tag(name: str, *inside: str, **attributes: object) -> str:
    """Return an element; what is inside is HTML already. True: an attribute without a value; False: left out."""
    words = [name]
    for key, value in attributes.items():
        if value is not False:
            key = key.rstrip("_").replace("_", "-")
            words.append(key if value is True else f'{key}="{text(value)}"')
    return f"<{' '.join(words)}>{''.join(inside)}</{name}>"


def page(title: str, style: str, script: str, *body: str) -> str:
    """Return a whole page."""
    return "".join(
        (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            tag("title", text(title)),
            tag("style", style),
            "</head>\n<body>\n",
            *body,
            f"<script>{script}</script></body></html>\n",
        )
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of plain words; figures stand on the right, one below the other."""
    head = tag("thead", tag("tr", *(tag("th", text(cell), scope="col") for cell in columns)))
    lines = (tag("tr", tag("th", text(row[0]), scope="row"), *map(_entry, row[1:])) for row in rows)
    return tag("div", tag("table", head, tag("tbody", *lines)), class_="wide") + "\n"


def number(value: object) -> str:
    """Return a figure in few digits, or the reason why there is none."""
    if value is None:
        return "–"
    if not isinstance(value, float) or not math.isfinite(value):
        return str(value)
    size = abs(value)
    if 0 < size < 0.001 or size >= 1e6:
        return f"{value:.2e}"
    return f"{value:.{3 if size < 10 else 2 if size < 100 else 1}f}"


def plots(prefix: str, curves: Sequence[Curve | None]) -> tuple[str, list[str]]:
    """Return what the plots of a section share, drawn once, and each one's plot, as SVG. All have the same axes.

    prefix: of the ids, not the same for two sections.
    """
    known = [curve for curve in curves if curve is not None]
    if not known:
        return "", [tag("p", NO_CURVE, class_="note")] * len(curves)
    end = max((STEPS[0], *(second for curve in known for second in curve.seconds)))
    highest = max(value for curve in known for line in _lips(curve) for value in (0.0, *_numbers(line)))
    top = OPENING_STEP * max(1, math.ceil(highest / OPENING_STEP - 1e-9))
    shared = {_axes(end, top, known): f"{prefix}-axes"}
    made = []
    for curve in curves:
        if curve is None:
            made.append(tag("p", NO_CURVE, class_="note"))
            continue
        for drawn in (behind := list(_behind(curve, end, top))):
            shared.setdefault(drawn, f"{prefix}-{len(shared)}")
        uses = (f'<use href="#{shared[drawn]}"/>' for drawn in behind)
        inside = (f'<use href="#{prefix}-axes"/>', *uses, _polylines("made", curve.seconds, curve.opening, end, top))
        words = "Lip opening over seconds"
        drawn = tag("svg", *inside, viewBox=f"0 0 {WIDE} {HIGH}", role="img", aria_label=words)
        made.append(drawn + tag("figcaption", f"{words}, in sides of the canvas"))
    groups = (tag("g", drawn, id=name) for drawn, name in shared.items())
    return tag("svg", tag("defs", *groups), width=0, height=0, class_="shared", aria_hidden="true"), made


def _entry(cell: str) -> str:
    is_figure = re.match(r"[-+−–±<>≤≥≈~ ]*(\.?\d|$)", cell) is not None and len(cell) < 24
    return tag("td", text(cell), class_=False if is_figure else "words")


def _lips(curve: Curve) -> Iterator[Line]:
    yield from (line for line in (curve.opening, curve.source, curve.spoken) if line is not None)


def _numbers(line: Line) -> Iterator[float]:
    return (value for value in line if value is not None and math.isfinite(value))


def _behind(curve: Curve, end: float, top: float) -> Iterator[str]:
    """Yield what lies behind the lips that were made: loudness, the source's lips, those of the speech's own film."""
    if curve.loudness is not None and curve.seconds:
        heights = (value if value is not None and math.isfinite(value) else 0.0 for value in curve.loudness)
        points = [
            f"{_x(second, end):.1f},{FOOT - (FOOT - BAND) * min(1.0, max(0.0, height)):.1f}"
            for second, height in sorted(zip(curve.seconds, heights, strict=True))
        ]
        first, last = (f"{_x(bound(curve.seconds), end):.1f},{FOOT}" for bound in (min, max))
        yield f'<polygon class="loudness" points="{" ".join((first, *points, last))}"/>'
    yield _polylines("source", curve.seconds, curve.source, end, top)
    if curve.spoken is not None:
        yield _polylines("spoken", curve.seconds, curve.spoken, end, top)


def _polylines(name: str, seconds: Sequence[float], line: Line, end: float, top: float) -> str:
    """Return a line, in pieces where frames have no face or another face's begin."""
    pieces: list[list[str]] = [[]]
    for before, second, value in zip((-math.inf, *seconds), seconds, line, strict=False):
        if value is None or not math.isfinite(value) or second < before:
            pieces.append([])
        if value is not None and math.isfinite(value):
            pieces[-1].append(f"{_x(second, end):.1f},{BASE - (BASE - TOP) * value / top:.1f}")
    return "".join(f'<polyline class="{name}" points="{" ".join(piece)}"/>' for piece in pieces if piece)


def _x(second: float, end: float) -> float:
    return LEFT + (RIGHT - LEFT) * second / end


def _axes(end: float, top: float, curves: Sequence[Curve]) -> str:
    """Return grid, ticks, titles and a legend of what these curves have."""
    step = next((step for step in STEPS if end / step <= NUM_TICKS), STEPS[-1])
    drawn = []
    for share in (0.0, 0.5, 1.0):
        y = BASE - (BASE - TOP) * share
        drawn.append(f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y:g}" y2="{y:g}"/>')
        drawn.append(_words(f"{round(top * share, 3):g}", LEFT - 4, y + 3, "end"))
    for tick in range(int(end / step + 1e-9) + 1):
        x = _x(tick * step, end)
        drawn.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{FOOT + 3}"/>')
        drawn.append(_words(f"{tick * step:g}", x, FOOT + 13, "middle"))
    drawn.append(_words("seconds", (LEFT + RIGHT) / 2, HIGH - 1, "middle"))
    legend = {"made": True, "source": True, "spoken": any(curve.spoken is not None for curve in curves)}
    legend["loudness"] = any(curve.loudness is not None for curve in curves)
    for place, name in enumerate(name for name, there in legend.items() if there):
        x = LEFT + 65 * place
        block = f'<rect class="loudness" x="{x}" y="4" width="14" height="8"/>'
        stroke = f'<path class="{name}" d="M{x} 8h14"/>'
        drawn += [block if name == "loudness" else stroke, _words(name, x + 18, 11, "start")]
    return "".join(drawn)


def _words(words: str, x: float, y: float, anchor: str) -> str:
    return tag("text", words, class_="tick", text_anchor=anchor, x=f"{x:.1f}", y=f"{y:.1f}")
