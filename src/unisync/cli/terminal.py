"""How a command speaks to the one who runs it: bars while it works, tables, and one sentence for what can be mended."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from unisync.errors import UnisyncError

if TYPE_CHECKING:
    from unisync.types import OnProgress, Progress

BAD_INPUT, INTERRUPTED = 2, 130


def table(rows: list[dict[str, str]]) -> Iterator[str]:
    """Yield the lines of a table, headed by the rows' keys."""
    if rows:
        lines = [list(rows[0]), *(list(row.values()) for row in rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


@contextmanager
def told(verbose: bool) -> Iterator[None]:
    """Turn what a person can mend into one sentence and an exit code."""
    try:
        yield
    except UnisyncError as error:
        if verbose:
            import traceback

            traceback.print_exc()
        print(f"unisync: {error}", file=sys.stderr)
        raise typer.Exit(BAD_INPUT) from None
    except KeyboardInterrupt:
        print("unisync: interrupted, nothing is left behind", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def bars() -> Iterator[OnProgress | None]:
    """Draw a bar per stage while something works; nothing where no one watches."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = TextColumn("{task.description:>6}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[pace]}")
    tasks: dict[str, TaskID] = {}
    begun: dict[str, float] = {}
    with Bars(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as drawn:

        def draw(progress: Progress) -> None:
            stage, total = progress.stage, progress.total or None
            if stage not in tasks:
                begun[stage] = time.monotonic()
                tasks[stage] = drawn.add_task(stage, total=total, pace="")
            pace = progress.done / max(time.monotonic() - begun[stage], 1e-3)
            what = "films" if stage in ("films", "cells", "build") else "frames"
            drawn.update(tasks[stage], completed=progress.done, total=total, pace=f"{pace:.1f} {what}/s")

        yield draw
