"""What a dataset is made of, for people: one static page with counts and histograms, and one picture of faces."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from unisync.options import PrepareOptions
from unisync.training.assemble import DOUBLE, Judged, Prepared
from unisync.training.films import THUMB, read_traits
from unisync.training.filters import FILTERS, Filter
from unisync.types import Pixels

COLUMNS, ROWS_KEPT, ROWS_DROPPED = 16, 6, 2
CAPTION = 16
BINS = 32
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem}"
    "table{border-collapse:collapse}td,th{padding:.15rem .8rem .15rem 0;text-align:left;vertical-align:top}"
    "figure{display:inline-block;margin:.5rem}figcaption{font-size:13px}img{max-width:100%}"
)


def write_summary(out: Path, prepared: Prepared, judged: Sequence[Judged], options: PrepareOptions) -> None:
    """Write OUT/summary.html and OUT/sheet.jpg."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(_sheet(out, judged), cv2.COLOR_RGB2BGR))
    (out / "sheet.jpg").write_bytes(data.tobytes())
    (out / "summary.html").write_text(_page(out.name, prepared, judged, options), "utf-8")


def _page(name: str, prepared: Prepared, judged: Sequence[Judged], options: PrepareOptions) -> str:
    drops = []
    for item in (*FILTERS, Filter(DOUBLE, "max_alike", most=True)):
        bound = float(getattr(options, item.option))
        measured = item.figure == DOUBLE or any(item.figure in each.candidate.figures for each in judged)
        rule = "off" if not bound else f"{'above' if item.most else 'below'} {bound:g}" if measured else "not measured"
        drops.append((item.figure, rule, prepared.dropped[item.figure]))
    facts = [
        ("films", f"{prepared.films}, {prepared.film_seconds / 60:.1f} min; {len(prepared.unreadable)} cannot be read"),
        ("samples", f"{prepared.samples} of {prepared.candidates}, {prepared.seconds / 60:.1f} min"),
        ("held out", f"{prepared.held_seconds / 60:.1f} min, {prepared.held_speakers} of {prepared.speakers} speakers"),
    ]
    title = html.escape(name)
    return "".join(
        (
            f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{STYLE}</style><h1>{title}</h1>",
            _table((), facts),
            "<h2>What was dropped</h2><p>By the first filter that refused it.</p>",
            _table(("filter", "bound", "dropped"), drops),
            "<p>Nothing here can tell music from speech: a voice that sings, or speaks over music, is kept.</p>",
            "<h2>Figures of all candidates</h2>",
            *(_histogram(item, judged, options) for item in FILTERS),
            "<h2>Faces</h2><p>Samples first, then some of what each filter dropped.</p><img src=sheet.jpg alt=faces>",
            "<h2>Films that cannot be read</h2>",
            _table((), sorted(prepared.unreadable.items())) if prepared.unreadable else "<p>None.</p>",
            "</html>\n",
        )
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    top = "".join(f"<th>{cell}" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}" for cell in row) for row in rows)
    return f"<table>{f'<tr>{top}' if head else ''}{body}</table>"


def _histogram(item: Filter, judged: Sequence[Judged], options: PrepareOptions) -> str:
    """Return a figure's histogram as SVG, samples dark, the rest light, the bound a line."""
    every = [(float(each.candidate.figures.get(item.figure, np.nan)), not each.candidate.dropped) for each in judged]
    values = np.array([value for value, _ in every])
    kept = np.array([kept for _, kept in every], bool)
    known = np.isfinite(values)
    if not known.any():
        return ""
    low, high = np.percentile(values[known], (0, 99))
    high = max(high, low + 1e-6)
    clipped = np.clip(values, low, high)
    tall, _ = np.histogram(clipped[known], BINS, (low, high))
    dark, _ = np.histogram(clipped[known & kept], BINS, (low, high))
    bars = "".join(
        f"<rect x={7 * i} y={80 - 80 * n / tall.max():.1f} width=6 height={80 * n / tall.max():.1f} fill={colour} />"
        for counts, colour in ((tall, "#bcd"), (dark, "#357"))
        for i, n in enumerate(counts)
    )
    bound = float(getattr(options, item.option))
    at = 7 * BINS * (bound - low) / (high - low)
    line = f"<line x1={at:.1f} x2={at:.1f} y1=0 y2=80 stroke=#c33 />" if bound and 0 <= at <= 7 * BINS else ""
    words = f"{item.figure}: {low:.3g} to {high:.3g}"
    return f"<figure><svg width={7 * BINS} height=80>{bars}{line}</svg><figcaption>{words}</figcaption></figure>"


def _sheet(out: Path, judged: Sequence[Judged]) -> Pixels:
    """Return a picture of samples spread over the films, then of what each filter dropped, under a line that says so."""
    blocks = []
    for name in ("", *(item.figure for item in FILTERS), DOUBLE):
        group = [item for item in judged if item.candidate.dropped == name]
        most = COLUMNS * (ROWS_DROPPED if name else ROWS_KEPT)
        chosen = (
            [group[i] for i in np.unique(np.linspace(0, len(group) - 1, min(most, len(group))).astype(int))]
            if group
            else []
        )
        if chosen:
            title = f"{len(group)} dropped by {name}" if name else f"{len(group)} samples"
            blocks.append(_block(title, [_cell(out, item, name) for item in chosen]))
    return np.vstack(blocks) if blocks else np.full((THUMB, COLUMNS * THUMB, 3), 40, np.uint8)


def _cell(out: Path, item: Judged, name: str) -> Pixels:
    key = item.candidate.key
    data = read_traits(out / "films" / f"{key.rpartition('-')[0]}.npz")[f"thumb-{key}"]
    image = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]
    figure = item.candidate.figures.get(name)
    return np.vstack([image, _words(f"{figure:.3g}" if isinstance(figure, float) else item.part, THUMB)])


def _block(title: str, cells: list[Pixels]) -> Pixels:
    cells = cells + [np.full_like(cells[0], 40)] * (-len(cells) % COLUMNS)
    rows = [np.hstack(cells[i : i + COLUMNS]) for i in range(0, len(cells), COLUMNS)]
    return np.vstack([_words(title, COLUMNS * THUMB), *rows])


def _words(text: str, width: int) -> Pixels:
    line = np.full((CAPTION, width, 3), 40, np.uint8)
    cv2.putText(line, text, (3, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (235,) * 3, 1, cv2.LINE_AA)
    return line
