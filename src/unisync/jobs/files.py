"""What jobs need of the disk: files written whole or not at all, a lock that dies with its holder, when a file changed."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

LOCK = "lock"
PATIENCE = 0.5
"""Seconds in which a lock is asked for again: who only looks whether it is held holds it for a moment."""

Print = tuple[int, int]
"""A file's size and its time of change in nanoseconds, by which it is known again."""


class Locked(Exception):  # noqa: N818 - who catches it decides whether it is an error
    """Another process holds the lock."""


@contextmanager
def lock(folder: Path, alone: bool = False) -> Iterator[None]:
    """Hold a folder's lock; it is let go of when the process ends, however it does. Raises Locked.

    alone: the process serves nothing else, so that it may be killed with the job.
    """
    with (folder / LOCK).open("a+") as file:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise Locked from None
                time.sleep(0.02)
        if print_of(folder / LOCK) is None:
            raise Locked  # the folder was taken away meanwhile
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "born": born(os.getpid()), "alone": alone}))
        file.flush()
        yield


def locked(folder: Path) -> bool:
    """Return whether a process holds the folder's lock."""
    try:
        with (folder / LOCK).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def holder(folder: Path) -> dict[str, Any]:
    """Return who took the folder's lock last: its pid, when it was born, and whether it serves nothing else."""
    with suppress(OSError, ValueError):
        known: dict[str, Any] = json.loads((folder / LOCK).read_text("utf-8"))
        return known
    return {}


def born(pid: int) -> str | None:
    """Return the process's time of birth in ticks since the machine's, None if there is none of that number."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def print_of(path: Path) -> Print | None:
    """Return how a file is known again, None where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


def now() -> str:
    """Return the time as ISO 8601, in UTC, to the millisecond."""
    seconds = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03d}Z"
