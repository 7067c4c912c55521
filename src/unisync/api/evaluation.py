"""Evaluating methods on films."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from unisync.types import OnProgress


@dataclass(frozen=True)
class Evaluated:
    """report: the page for people.  text: the tables as Markdown.  cells, finished, failed: films wanted, made and not."""

    report: Path
    text: str
    cells: int
    finished: int
    failed: int


def evaluate(
    suite: Path | str,
    out: Path | str,
    *,
    films: Path | str | None = None,
    jobs: int = 1,
    ratings: Iterable[Path | str] = (),
    on_progress: OnProgress | None = None,
) -> Evaluated:
    """Carry out a suite in the folder `out`, or go on; write results, tables and a report. Raises UnisyncError.

    films: a folder of films for a suite that names no clips.
    """
    from unisync.bench import report, run, tables
    from unisync.bench.importers import import_folder
    from unisync.bench.suite import read_suite

    clips = import_folder(Path(films)).clips if films is not None else ()
    wanted, rated, out = read_suite(Path(suite), clips), report.read_ratings(map(Path, ratings)), Path(out)
    run.evaluate(wanted, out, jobs, on_progress)
    results = tables.read_results(out, rated)
    made = tables.sheets(wanted, results)
    tables.write_tables(made, wanted, out)
    states = [row["status"] for row in results if "status" in row]
    text = "\n".join(map(tables.markdown, made))
    page = report.write_report(out, made)
    return Evaluated(page, text, len(states), states.count("finished"), states.count("failed"))


def compare(first: Path | str, second: Path | str) -> str:
    """Return what changed from one evaluation's folder to another's, as Markdown. Raises OptionError."""
    from unisync.bench import tables

    return tables.markdown(tables.diff(Path(first), Path(second)))


def import_suite(folder: Path | str, out: Path | str, *, layout: str = "auto") -> int:
    """Write a suite of the films in a folder and return how many there are. Raises OptionError."""
    from unisync.bench.importers import Layout, import_folder
    from unisync.bench.suite import write_suite
    from unisync.parse import fitted

    suite = import_folder(Path(folder), fitted(Layout, layout, "layout"))
    write_suite(suite, Path(out))
    return len(suite.clips)


def build_suite(
    folder: Path | str, out: Path | str, *, per_cell: int = 0, on_progress: OnProgress | None = None
) -> list[dict[str, str]]:
    """Write a suite of the films in a folder, arranged by what they show; return what was measured, as a table."""
    from unisync.bench.builder import build, traits_table
    from unisync.bench.suite import write_suite

    suite, traits = build(Path(folder), per_cell, on_progress)
    write_suite(suite, Path(out))
    return traits_table(traits)
