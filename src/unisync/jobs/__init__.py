"""Dubbing as jobs: each a folder that outlives the process at work on it, and says how it stands.

Nothing heavy is imported before a job is run in this very process.
"""

from unisync.jobs.events import events, follow
from unisync.jobs.process import start
from unisync.jobs.run import dry_run, run
from unisync.jobs.store import Job, State, cancel, create, delete, list_jobs, read, remix, retry

__all__ = [
    "Job",
    "State",
    "cancel",
    "create",
    "delete",
    "dry_run",
    "events",
    "follow",
    "list_jobs",
    "read",
    "remix",
    "retry",
    "run",
    "start",
]
