"""Dubbing as jobs: folders that outlive the process at work on them."""

from __future__ import annotations

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

__all__ = [
    "Job",
    "State",
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
]


def rows(found: list[Job]) -> list[dict[str, str]]:
    """Return jobs as a table for people."""
    return [
        {"job": job.id, "state": job.state, "tries": str(job.attempts), "film": job.film.name, "out": str(job.out)}
        for job in found
    ]
