"""Jobs side by side, each in a process of its own: one that dies is started again, one that fails stops no other."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace

from unisync.jobs.process import start
from unisync.jobs.run import LOG
from unisync.jobs.store import Job, read, retry

TRIES = 3
"""How often a job whose process dies is started."""
LOOK_SECONDS = 0.2


def run_all(jobs: Sequence[Job], at_once: int = 1) -> Iterator[Job]:
    """Carry jobs out, at most so many at once, and yield each as it has ended, failed ones too.

    One that is done is yielded as it is, one that failed or was cancelled before is tried again, and one that another
    process is at work on is waited for. When this is closed or interrupted, the processes are ended; their jobs can
    go on.
    """
    at_work, over = set[subprocess.Popen[bytes]](), threading.Event()
    threads = None if "OMP_NUM_THREADS" in os.environ else max(1, (os.cpu_count() or 1) // at_once)

    def work(job: Job) -> Job:
        tries = 0
        if job.state in ("failed", "cancelled") or (job.state == "done" and not job.out.is_file()):
            retry(job.folder.parent, job.id)
        while not over.is_set():
            job = read(job.folder.parent, job.id)
            if job.state in ("done", "failed", "cancelled"):
                break
            if job.state != "running" and tries == TRIES:
                return replace(job, error=f"its process died {tries} times; {job.folder / LOG} may say why")
            if job.state == "running":
                over.wait(LOOK_SECONDS)
                continue
            process, tries = start(job.folder.parent, job.id, threads=threads), tries + 1
            at_work.add(process)
            if over.is_set():
                process.terminate()
            process.wait()
            at_work.discard(process)
        return job

    pool = ThreadPoolExecutor(at_once, "jobs")
    try:
        for future in as_completed([pool.submit(work, job) for job in jobs]):
            yield future.result()
    finally:
        over.set()
        for process in list(at_work):
            process.terminate()
        pool.shutdown(cancel_futures=True)
