"""Commands that evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unisync.cli.app import Verbose, group
from unisync.cli.terminal import bars, table, told

evaluate = group("evaluate", "Evaluate methods on films: `unisync evaluate SUITE.toml`.")
Kept = Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where results go.", show_default=False)]
Written = Annotated[Path, typer.Option("--out", "-o", metavar="SUITE", help="The suite to write.", show_default=False)]
Films = Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the films lie.", show_default=False)]


@evaluate.command()
def run(
    suite: Annotated[Path, typer.Argument(metavar="SUITE", help="The suite's TOML file.", show_default=False)],
    out: Kept,
    films: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Films for a suite that names no clips.")] = None,
    jobs: Annotated[int, typer.Option(metavar="NUMBER", help="Films at work at once.", min=1)] = 1,
    ratings: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="What people said on rate.html; may be given often.")
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Make and judge every film of SUITE, or go on; write results, tables and a report."""
    with told(verbose):
        from unisync import api

        with bars() as on_progress:
            found = api.evaluate(suite, out, films=films, jobs=jobs, ratings=ratings or [], on_progress=on_progress)
        print(found.text)
        print(f"{found.report}: {found.finished} of {found.cells} films made, {found.failed} failed")


@evaluate.command()
def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="The folder of an evaluation.", show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="B", help="The folder of another.", show_default=False)],
    verbose: Verbose = False,
) -> None:
    """Say what changed from A to B, and what of it is beyond noise."""
    with told(verbose):
        from unisync import api

        print(api.compare(first, second))


@evaluate.command("import")
def import_(
    folder: Films,
    out: Written,
    layout: Annotated[
        str, typer.Option(metavar="LAYOUT", help="plain, hdtf, aigc-lipsync, realworld-lipsync; auto recognises them.")
    ] = "auto",
    verbose: Verbose = False,
) -> None:
    """Write a suite of the films in FOLDER as a published benchmark has them."""
    with told(verbose):
        from unisync import api

        print(f"{out}: {api.import_suite(folder, out, layout=layout)} clips")


@evaluate.command()
def build(
    folder: Films,
    out: Written,
    per_cell: Annotated[int, typer.Option(metavar="NUMBER", help="At most so many films of a kind; 0 is all.")] = 0,
    verbose: Verbose = False,
) -> None:
    """Measure the films in FOLDER and write a suite arranged by scene, light and character."""
    with told(verbose):
        from unisync import api

        with bars() as on_progress:
            rows = api.build_suite(folder, out, per_cell=per_cell, on_progress=on_progress)
        for line in table(rows):
            print(line)
        print(f"written: {out}")
