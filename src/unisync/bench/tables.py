"""Results as tables: means with intervals, in the papers' order, and what two evaluations differ in."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unisync.bench.run import RESULTS, TIMES
from unisync.bench.sheet import Sheet
from unisync.bench.statistics import Mean, difference, mean
from unisync.bench.suite import ALL_CLIPS, Suite
from unisync.errors import OptionError

Result = Mapping[str, Any]
Cell = tuple[str, str, str]
LATE = 3
"""Frames of 25 fps that lips and sound may be apart in a film that counts as generated well."""
SURE, SURE_OURS = 3.0, 0.08
"""Confidence that it needs: LSE-C, or our expert's (what a dataset is filtered by)."""
SAME_PERSON, SAME_SHAPE = 0.6, 3.0
"""CSIM that it needs at least; or how far, in % of the eye distance, the upper face may lie off."""


@dataclass(frozen=True)
class Column:
    """title: with an arrow which way is good.  figure: its name in results; papers: whether papers print it.

    digits: after the point.
    """

    title: str
    figure: str
    papers: bool = False
    digits: int = 2


COLUMNS = (
    Column("FID ↓", "fid", True),
    Column("FVD ↓", "fvd", True),
    Column("CSIM ↑", "csim", True),
    Column("NIQE ↓", "niqe", True),
    Column("BRISQUE ↓", "brisque", True),
    Column("HyperIQA ↑", "hyperiqa", True),
    Column("LSE-C ↑ (tracked)", "lse_c_tracked", True),
    Column("LSE-D ↓ (tracked)", "lse_d_tracked", True),
    Column("generated ↑", "generated", True),
    Column("GSR ↑", "gsr", True),
    Column("GSR ↑ (rated)", "gsr_rated"),
    Column("GSR ↑ (ours)", "gsr_ours"),
    Column("follows ↑", "follows"),
    Column("leak → 0", "leak"),
    Column("expert ↑ (ours)", "expert_confidence", digits=3),
    Column("silence share ↓", "silence_share"),
    Column("lip leak ↓", "lip_leak"),
    Column("LMD mesh ↓", "lmd_mesh"),
    Column("SSIM ↑", "ssim"),
    Column("PSNR ↑", "psnr"),
    Column("mouth PSNR ↑", "mouth_likeness"),
    Column("outside mask PSNR ↑", "outside_mask"),
    Column("sharpness → 1", "sharpness"),
    Column("flicker → 1", "flicker"),
    Column("seam → 1", "seam"),
    Column("jitter ↓", "jitter"),
    Column("shape ↓", "identity_shape"),
    Column("NIQE ↓ (ours)", "niqe_ours"),
    Column("frames exact ↑", "frames_exact"),
    Column("length exact ↑", "length_exact"),
    Column("s/s ↓", "seconds_per_second"),
    Column("peak MB ↓", "peak_memory_mb"),
)
PUBLISHED: Mapping[str, Mapping[str, float]] = {
    "UniSync": {
        "fid": 6.901,
        "fvd": 127.1,
        "csim": 0.887,
        "niqe": 6.258,
        "brisque": 34.39,
        "hyperiqa": 59.36,
        "lse_c_tracked": 7.047,
    },
    "OmniSync": {
        "fid": 7.855,
        "fvd": 199.6,
        "csim": 0.875,
        "niqe": 5.481,
        "brisque": 37.92,
        "hyperiqa": 56.36,
        "lse_c_tracked": 7.309,
    },
    "LatentSync": {
        "fid": 8.518,
        "fvd": 216.9,
        "csim": 0.859,
        "niqe": 6.270,
        "brisque": 50.86,
        "hyperiqa": 53.21,
        "lse_c_tracked": 8.050,
    },
    "MuseTalk": {
        "fid": 8.759,
        "fvd": 231.4,
        "csim": 0.862,
        "niqe": 5.824,
        "brisque": 46.00,
        "hyperiqa": 55.4,
        "lse_c_tracked": 6.890,
    },
    "Wav2Lip": {
        "fid": 14.912,
        "fvd": 543.3,
        "csim": 0.852,
        "niqe": 6.495,
        "brisque": 53.37,
        "hyperiqa": 45.82,
        "lse_c_tracked": 7.630,
    },
}
"""HDTF, with own speech, as arXiv 2603.03882 prints them (Table 1)."""
OF_ALL = ("generated", "gsr", "gsr_ours")
"""Told of all clips that were tried, whatever quality is averaged over."""
NOTE = (
    "Means over clips with 95 % bootstrap intervals; n: clips that have the figure, where it is not all that were finished. "
    "Clips that failed count in 'generated' and both GSR."
)
PUBLISHED_NOTE = (
    " Rows marked (published) are the papers' own figures on HDTF: their films, crops and versions, so not to be held "
    "against figures of other films."
)


def read_results(out: Path, ratings: Mapping[Cell, tuple[int, int]] | None = None) -> list[dict[str, Any]]:
    """Return an evaluation's results, with times, success and what people said among their figures.

    ratings: by method, protocol and clip, how many said that lips fit and the picture is acceptable, of how many.
    Raises OptionError if there are no results or they are damaged.
    """
    rows = _lines(out / RESULTS)
    times = {_cell(row): row for row in (_lines(out / TIMES) if (out / TIMES).exists() else [])}
    for row in rows:
        own = times.get(_cell(row), {})
        row["figures"] |= {name: own[name] for name in ("seconds_per_second", "peak_memory_mb") if name in own}
        row["figures"] |= {k: float(v) for k, v in row.get("facts", {}).items() if isinstance(v, bool)}
        if row.get("status") in ("finished", "failed"):
            row["figures"] |= success(row)
        said = (ratings or {}).get((row["method"], row["protocol"], row["clip"]))
        if said is not None:
            row["figures"]["gsr_rated"] = said[0] / said[1]
    return rows


def success(row: Result) -> dict[str, float | str]:
    """Return whether a film was generated at all, and whether it is one that would be accepted.

    generated: as arXiv 2603.03882 counts.  gsr: in sync and of the same person, as arXiv 2505.21448 has people judge, here by
    LSE and CSIM, or the reason why not; gsr_ours: the same by our expert and the shape of the upper face.
    """
    told: dict[str, float | str] = {"generated": float(row["status"] == "finished")}
    if row["status"] == "failed":
        return told | {"gsr": 0.0, "gsr_ours": 0.0}
    if row["protocol"] == "silent":
        return told
    figures, faces = row["figures"], bool(row["facts"].get("faces"))
    ways: Mapping[str, tuple[str, str, float, str, Callable[[float], bool]]] = {
        "gsr": ("lse_offset_tracked", "lse_c_tracked", SURE, "csim", lambda value: value >= SAME_PERSON),
        "gsr_ours": (
            "expert_offset",
            "expert_confidence",
            SURE_OURS,
            "identity_shape",
            lambda value: value <= SAME_SHAPE,
        ),
    }
    for name, (offset, sure, least, face, same) in ways.items():
        values = [figures.get(key, "not measured") for key in (offset, sure, face)]
        if not faces:
            told[name] = 0.0
        elif missing := [value for value in values if isinstance(value, str)]:
            told[name] = missing[0]
        else:
            told[name] = float(abs(values[0]) <= LATE and values[1] >= least and same(values[2]))
    return told


def sheets(suite: Suite, results: Sequence[Result]) -> list[Sheet]:
    """Return a table per protocol: a row per method, published ones below them under self."""
    return [
        _sheet(suite, protocol, [row for row in results if row["protocol"] == protocol]) for protocol in suite.protocols
    ]


def _sheet(suite: Suite, protocol: str, rows: Sequence[Result]) -> Sheet:
    used = _where_all_finished(rows) if suite.only_where_all_finished else list(rows)
    there = [c for c in COLUMNS if any(c.figure in row["figures"] for row in rows)]
    made = []
    for method in suite.methods:
        own = [row for row in used if row["method"] == method.name]
        single = [row for row in own if row["clip"] != ALL_CLIPS]
        attempted = [
            row for row in rows if row["method"] == method.name and row.get("status") in ("finished", "failed")
        ]
        finished = sum(row["status"] == "finished" for row in attempted)
        cells = [_words(attempted if c.figure in OF_ALL else single, own, c, suite.seed) for c in there]
        made.append((method.name, f"{finished}/{len(attempted)}", *cells))
    note = NOTE + (" Quality only of clips that every method finished." if suite.only_where_all_finished else "")
    if protocol == "self":
        note += PUBLISHED_NOTE
        for name, known in PUBLISHED.items():
            cells = [f"{known[c.figure]:g}" if c.figure in known else "–" for c in there]
            made.append((f"{name} (published)", "–", *cells))
    return Sheet(f"{suite.name}: {protocol}", ("method", "finished", *(c.title for c in there)), tuple(made), note)


def _where_all_finished(rows: Sequence[Result]) -> list[Result]:
    """Return the rows of clips that no method failed."""
    failed = {row["clip"] for row in rows if row.get("status") == "failed"}
    return [row for row in rows if row["clip"] not in failed]


def _words(single: Iterable[Result], own: Iterable[Result], column: Column, seed: int) -> str:
    """Return a cell: the figure of all clips together if there is one, else the mean of the clips'."""
    single, figure = list(single), column.figure
    for row in own:
        if row["clip"] == ALL_CLIPS and figure in row["figures"]:
            value = row["figures"][figure]
            return f"– ({value})" if isinstance(value, str) else f"{value:.{column.digits}f}"
    values = [row["figures"][figure] for row in single if figure in row["figures"]]
    numbers = [float(value) for value in values if not isinstance(value, str)]
    if numbers:
        could = single if figure in OF_ALL else [row for row in single if row["status"] == "finished"]
        return written(mean(numbers, seed), len(could), column.digits)
    return f"– ({values[0]})" if values else "–"


def written(value: Mean, of: int, digits: int = 2) -> str:
    """Return a mean in words. of: how many clips could have had it.  digits: after the point."""
    text = f"{value.value:.{digits}f}"
    if value.low is not None and value.high is not None:
        text += f" [{value.low:.{digits}f}, {value.high:.{digits}f}]"
    return text if value.num == of else f"{text} n={value.num}"


def diff(first: Path, second: Path) -> Sheet:
    """Return what changed from one evaluation to another, clip by clip, over the cells that both finished.

    Raises OptionError where they share none.
    """
    left, right = (
        {_cell(row): row for row in read_results(out) if row["clip"] != ALL_CLIPS} for out in (first, second)
    )
    both = [cell for cell in left if cell in right]
    if not both:
        raise OptionError(f"{first} and {second} share no protocol, clip and method: there is nothing to compare")
    groups: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for cell in both:
        figures = left[cell]["figures"], right[cell]["figures"]
        for name in figures[0]:
            pair = figures[0][name], figures[1].get(name)
            if all(isinstance(value, int | float) for value in pair):
                groups.setdefault((cell[0], cell[2], name), []).append(pair)
    rows = []
    for (protocol, method, name), pairs in groups.items():
        old, new = ([pair[i] for pair in pairs] for i in (0, 1))
        apart = difference(old, new)
        interval = f"[{apart.low:.3f}, {apart.high:.3f}]" if apart.low is not None else "too few clips"
        means = (f"{sum(values) / len(values):.3f}" for values in (old, new))
        verdict = "yes" if apart.beyond_noise else "no"
        rows.append((protocol, method, name, *means, f"{apart.value:+.3f}", interval, str(apart.num), verdict))
    columns = ("protocol", "method", "figure", "first", "second", "difference", "95 %", "n", "beyond noise")
    return Sheet(
        f"{first.name} → {second.name}", columns, tuple(rows), "Paired bootstrap over the clips that both finished."
    )


def markdown(sheet: Sheet) -> str:
    """Return a sheet as Markdown."""
    lines = [sheet.columns, tuple("---" for _ in sheet.columns), *sheet.rows]
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return f"## {sheet.title}\n\n{table}\n\n{sheet.note}\n"


def comma_separated(sheet: Sheet) -> str:
    """Return a sheet as CSV, headings first."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([sheet.columns, *sheet.rows])
    return out.getvalue()


LATEX = {letter: f"\\{letter}" for letter in "&%_#${}"} | {
    "~": r"\~{}",
    "^": r"\^{}",
    "\\": r"\textbackslash{}",
    "–": "--",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "→": r"$\rightarrow$",
}


def latex(sheet: Sheet) -> str:
    """Return a sheet as a LaTeX tabular."""
    rows = (
        ["".join(LATEX.get(letter, letter) for letter in cell) for cell in row] for row in (sheet.columns, *sheet.rows)
    )
    lines = [" & ".join(cells) + r" \\" for cells in rows]
    body = "\n".join([lines[0], r"\hline", *lines[1:]])
    return f"\\begin{{tabular}}{{l{'r' * (len(sheet.columns) - 1)}}}\n\\hline\n{body}\n\\hline\n\\end{{tabular}}\n"


WRITERS: Mapping[str, Callable[[Sheet], str]] = {"md": markdown, "csv": comma_separated, "tex": latex}


def write_tables(made: Sequence[Sheet], suite: Suite, out: Path) -> None:
    """Write table.md, and a CSV and a LaTeX file per protocol."""
    (out / "table.md").write_text("\n".join(map(markdown, made)), "utf-8")
    for sheet, protocol in zip(made, suite.protocols, strict=True):
        for suffix in ("csv", "tex"):
            (out / f"table-{protocol}.{suffix}").write_text(WRITERS[suffix](sheet), "utf-8")


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    except OSError as error:
        raise OptionError(f"{path}: cannot be read ({error.strerror}); is it the folder of an evaluation?") from error
    except ValueError as error:
        raise OptionError(f"{path}: is damaged ({error}); run the evaluation again") from error


def _cell(row: Result) -> Cell:
    return row["protocol"], row["clip"], row["method"]
