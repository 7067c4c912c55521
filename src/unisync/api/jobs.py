"""Dubbing as jobs: folders that outlive the process at work on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from unisync.jobs import (
    Job,
    State,
    cancel,
    create,
    delete,
    dry_run,
    events,
    follow,
    list_jobs,
    read,
    remix,
    retry,
    run,
    start,
)
from unisync.jobs.process import limit_memory, limit_seconds
from unisync.jobs.rows import Result
from unisync.options import DubOptions
from unisync.types import OnProgress

__all__ = [
    "Job",
    "Result",
    "State",
    "batch",
    "cancel",
    "create",
    "delete",
    "dry_run",
    "events",
    "follow",
    "limit_memory",
    "limit_seconds",
    "list_jobs",
    "read",
    "remix",
    "retry",
    "rows",
    "run",
    "start",
    "watch",
]


def rows(found: list[Job]) -> list[dict[str, str]]:
    """Return jobs as a table for people."""
    return [
        {"job": job.id, "state": job.state, "tries": str(job.attempts), "film": job.film.name, "out": str(job.out)}
        for job in found
    ]


def batch(
    source: str,
    out: Path | str,
    *,
    speech: Path | str | None = None,
    speeches: Mapping[str, Path | str] | None = None,
    values: Mapping[str, Any] | None = None,
    at_once: int = 1,
    ray: str | None = None,
    cores: int = 1,
    gpus: float = 0,
    on_progress: OnProgress | None = None,
) -> Iterator[Result]:
    """Dub the films of a table (.csv) or a pattern into the folder `out`, and yield what came of each as it ends.

    What was made by an earlier call is not made again.  speech, speeches, values: what is spoken and options by name,
    where a row says nothing else.  at_once: films at work on this machine.
    ray: the address of a cluster ("auto" finds one, "local" starts one) with workers of so many cores and gpus.
    Raises UnisyncError for what stops all rows.
    """
    from unisync import batch as batches
    from unisync.jobs.rows import read_rows

    own = {name: Path(path) for name, path in (speeches or {}).items()}
    rows = read_rows(source, None if speech is None else Path(speech), own, values or {})
    cluster = None if ray is None else batches.Cluster(ray, cores, gpus)
    return batches.batch(rows, Path(out), at_once=at_once, cluster=cluster, on_progress=on_progress)


def watch(
    folder: Path | str,
    out: Path | str,
    *,
    options: DubOptions | None = None,
    at_once: int = 1,
    seconds: float = 3.0,
    once: bool = False,
) -> Iterator[Result]:
    """Dub each film and speech of the same stem that arrive in a folder, and yield what came of it; for ever, or once.

    seconds: how long a file must have stayed as it is to count as whole.  Raises UnisyncError.
    """
    from unisync.jobs.watch import watch as watching

    return watching(Path(folder), Path(out), options or DubOptions(), at_once=at_once, seconds=seconds, once=once)
