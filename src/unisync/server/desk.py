"""Who is at work: looks at uploads and jobs, started as processes when their turn comes, reaped when they end.

What waits is what the disk says waits, so that a server that was killed goes on where it was.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from unisync.api import jobs
from unisync.errors import JobError
from unisync.options import ServeOptions
from unisync.server.meters import Meters
from unisync.server.problems import Refused
from unisync.server.storage import PLURAL, Kind, Storage, print_of, write_json

TICK_SECONDS = 0.2
TRIES = 2
"""How often a job is started that was ended from outside, before somebody has to ask for it."""
LOG = "look.log"
REQUEST = "request.json"
"""What the server notes in a job's folder: which uploads it is made of."""
GIGABYTE = 1 << 30


@dataclass
class Work:
    """One process at work. late: it was ended because it took too long."""

    what: Literal["look", "job"]
    kind: Kind | None
    id: str
    process: subprocess.Popen[bytes]
    begun: float
    late: bool = False

    def signal(self, number: int) -> None:
        """Send a signal to the process and all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


class Desk:
    """Starts and reaps workers. One look may run beside the jobs, so that an upload need not wait for a long film."""

    def __init__(self, options: ServeOptions, storage: Storage, meters: Meters) -> None:
        self.options, self.storage, self.meters = options, storage, meters
        self.jobs = storage.root / "jobs"
        self.works: list[Work] = []
        self.tries: dict[str, int] = {}
        self._known: dict[str, tuple[tuple[int, int], jobs.Job]] = {}
        self.stopping = False

    @property
    def memory(self) -> int:
        return int(self.options.memory * GIGABYTE)

    def begin(self) -> None:
        """Take up what an earlier server left: uploads are looked at again, interrupted jobs wait again."""
        self.jobs.mkdir(parents=True, exist_ok=True)
        for kind in PLURAL:
            for about in self.storage.every(kind):
                if about["state"] == "running":
                    self.storage.change(kind, about["id"], state="queued")
        for job in self.every():
            if job.state == "interrupted":
                jobs.retry(self.jobs, job.id)

    async def run(self) -> None:
        """Work until the server stops."""
        while not self.stopping:
            await asyncio.to_thread(self.tick)
            await asyncio.sleep(TICK_SECONDS)

    async def end(self) -> None:
        """Let what runs come to its end for a while, then put it back: jobs go on with what they kept."""
        self.stopping = True
        for number, patience in ((0, self.options.grace), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
            if number:
                for work in self.works:
                    work.signal(number)
            until = time.monotonic() + patience
            while self.works and time.monotonic() < until:
                await asyncio.to_thread(self._reap)
                await asyncio.sleep(TICK_SECONDS / 2)

    def waiting(self) -> int:
        """Return how many uploads and jobs wait."""
        uploads = [about for kind in PLURAL for about in self.storage.every(kind)]
        num = sum(1 for about in uploads if about["state"] == "queued")
        return num + len(self._queued(self.every()))

    def check_room(self) -> None:
        """Raise Refused (503) where as much waits as may."""
        if self.waiting() >= self.options.queue:
            raise Refused(503, f"{self.options.queue} films and jobs wait already: come back later")

    def tick(self) -> None:
        """Reap who has ended, end who takes too long, and start whose turn it is."""
        self._reap()
        if self.stopping:
            return
        if not any(work.what == "look" for work in self.works):
            self._look()
        found = self.every()
        queued = self._queued(found)
        free = self.options.workers - sum(job.state == "running" for job in found)
        started = {work.id for work in self.works}
        for job in [job for job in queued if job.id not in started][: max(0, free)]:
            self.tries[job.id] = self.tries.get(job.id, 0) + 1
            with suppress(JobError):  # deleted or cancelled a moment ago
                seconds = self.options.minutes * 60
                process = jobs.start(self.jobs, job.id, memory_bytes=self.memory, seconds=seconds)
                self.works.append(Work("job", None, job.id, process, time.monotonic()))
        self.meters.waiting.set(len(queued))
        self.meters.running.set(len(self.works))

    def every(self) -> list[jobs.Job]:
        """Return all jobs, oldest first; those that are not at work are read again only where their file has changed."""
        found = []
        for folder in self.jobs.glob("*/"):
            name = folder.name
            try:
                print_ = print_of(folder / "job.json")
                known = self._known.get(name)
                if known is None or known[0] != print_ or known[1].state in ("running", "interrupted"):
                    known = self._known[name] = print_, jobs.read(self.jobs, name)
            except (OSError, JobError):  # being made or deleted, or damaged
                self._known.pop(name, None)
                continue
            found.append(known[1])
        for gone in set(self._known) - {job.id for job in found}:
            self._known.pop(gone, None)
        return sorted(found, key=lambda job: (job.created, job.id))

    def _queued(self, found: list[jobs.Job]) -> list[jobs.Job]:
        """Return the jobs that wait, and those ended from outside that may be tried once more; oldest first."""
        return [
            job
            for job in found
            if job.state == "queued" or (job.state == "interrupted" and self.tries.get(job.id, 0) < TRIES)
        ]

    def _look(self) -> None:
        waiting = [about for kind in PLURAL for about in self.storage.every(kind) if about["state"] == "queued"]
        for about in sorted(waiting, key=lambda about: about["created"])[:1]:
            kind, name, options = about["kind"], about["id"], self.options
            folder = self.storage.folder(kind, name)
            limits = options.max_seconds, options.max_pixels, self.memory, int(options.minutes * 60)
            command = [sys.executable, "-m", "unisync.server.looking", str(folder), *map(str, limits)]
            self.storage.change(kind, name, state="running")
            with (folder / LOG).open("wb") as log:
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            self.works.append(Work("look", kind, name, process, time.monotonic()))

    def _reap(self) -> None:
        for work in list(self.works):
            spent = time.monotonic() - work.begun
            if work.process.poll() is None:
                if work.what == "look" and spent > self.options.minutes * 60:
                    work.late = True
                    work.signal(signal.SIGKILL)
                continue
            work.signal(signal.SIGKILL)  # whoever it started and left
            self.works.remove(work)
            good = work.process.returncode == 0
            self.meters.work.labels(work.what, "good" if good else "bad").observe(spent)
            with suppress(Refused, JobError):  # deleted meanwhile
                if work.kind is not None:
                    self._looked(work, work.kind)
                elif not self.stopping and self.tries.get(work.id, 0) >= TRIES:
                    self._give_up(work)

    def _give_up(self, work: Work) -> None:
        """Note why a job is not tried any more whose worker ended without a word; one that never began is cancelled."""
        state = jobs.read(self.jobs, work.id).state
        if state in ("queued", "interrupted"):
            why = f"its worker ended without a word ({_how(work)}), {TRIES} times"
            note(self.jobs / work.id, problem=f"{why}: it may want more memory than there is for one")
        if state == "queued":
            jobs.cancel(self.jobs, work.id)

    def _looked(self, work: Work, kind: Kind) -> None:
        """Write down what a look found, or why it found nothing."""
        path = self.storage.folder(kind, work.id) / "look.json"
        found: dict[str, Any] | None = json.loads(path.read_text("utf-8")) if path.is_file() else None
        if found is not None:
            self.storage.change(kind, work.id, state="refused" if found["error"] else "ready", **found)
        elif self.stopping and not work.late:
            self.storage.change(kind, work.id, state="queued")
        else:
            self.storage.change(kind, work.id, state="refused", error=self._why(work, kind))

    def _why(self, work: Work, kind: Kind) -> str:
        if work.late or work.process.returncode == -signal.SIGXCPU:
            return f"the {kind} took longer than {self.options.minutes:g} minutes to look at: send a shorter one"
        return f"the {kind} could not be looked at ({_how(work)}): it is damaged, or wants more memory than there is for one"


def note(folder: Path, **values: Any) -> None:
    """Change what the server notes in a job's folder."""
    path = folder / REQUEST
    write_json(path, json.loads(path.read_text("utf-8")) | values)


def _how(work: Work) -> str:
    code = work.process.returncode
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
