"""A job in a process of its own: started, and held to the memory and the time it is given."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from unisync.errors import OptionError
from unisync.jobs.events import Events
from unisync.jobs.files import now
from unisync.jobs.run import LOG
from unisync.jobs.store import read, save

GRACE_SECONDS = 5.0
"""How long a process may clean up after its time is over, before it is killed."""


def start(
    jobs: Path | str,
    id: str,  # noqa: A002
    *,
    memory_bytes: int | None = None,
    seconds: float | None = None,
    threads: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start `python -m unisync jobs run` for a job, in a session of its own; what it says goes to the job's log.

    memory_bytes: what it may allocate at most (Linux).  seconds: after which it fails.  threads: for its mathematics.
    The caller has to wait for the process; that the job failed is said by the job, not by the exit code alone.
    """
    job = read(jobs, id)
    words = [sys.executable, "-m", "unisync", "jobs", "run", id, "--jobs", str(job.folder.parent)]
    words += [] if memory_bytes is None else ["--memory", str(memory_bytes)]
    words += [] if seconds is None else ["--time-limit", str(seconds)]
    env = os.environ if threads is None else {**os.environ, "OMP_NUM_THREADS": str(threads)}
    home = job.home if job.home.is_dir() else job.folder
    with (job.folder / LOG).open("ab") as log:
        return subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=home, env=env, start_new_session=True
        )


def limit_memory(num_bytes: int) -> None:
    """Let this process allocate no more than that; what goes beyond raises MemoryError or ends it. Raises OptionError."""
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (num_bytes, num_bytes))
    except (ValueError, OSError) as error:
        raise OptionError(f"memory cannot be limited to {num_bytes} bytes ({error}); leave the limit out") from error


@contextmanager
def limit_seconds(jobs: Path | str, id: str, seconds: float) -> Iterator[None]:  # noqa: A002
    """End this process, and let the job it runs fail, once so many seconds are over."""

    def late() -> None:
        late_now.set()
        os.kill(os.getpid(), signal.SIGTERM)
        if not over.wait(GRACE_SECONDS):
            fail()
            os.kill(os.getpid(), signal.SIGKILL)

    def fail() -> None:
        job = read(jobs, id)
        if job.state not in ("done", "failed", "cancelled"):
            error = f"it took longer than {seconds:g} seconds; allow more, or cut the film"
            save(replace(job, state="failed", error=error, finished=now()))
            Events(job.folder).tell("failed", error=error)

    over, late_now = threading.Event(), threading.Event()
    timer = threading.Timer(seconds, late)
    timer.daemon = True
    timer.start()
    try:
        yield
    except SystemExit:
        if late_now.is_set():
            fail()
        raise
    finally:
        over.set()
        timer.cancel()
