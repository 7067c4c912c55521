"""Many films at once: by processes on this machine, or by Ray on many. Nothing else knows of Ray.

What a worker of Ray has done lies in the job's folder, on a disk that all machines share; a worker that is lost costs the
window it was at.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unisync.errors import OptionError
from unisync.jobs.pool import run_all
from unisync.jobs.rows import Result, Row, jobs_of, result_of
from unisync.jobs.run import keep, run, stage
from unisync.jobs.store import Job, read, retry
from unisync.types import OnProgress, Progress

if TYPE_CHECKING:
    from unisync.production import Production

SPLIT_FRAMES = 500
"""Films with more frames to paint than that are painted shot by shot."""
TRIES = 3
"""How often a task is given to a worker again that was lost over it."""
LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Cluster:
    """Ray's workers. address: of a running cluster, "auto" finds it, "local" starts one here.

    cores, gpus: each worker has so many.  split_frames: films with more to paint are painted shot by shot.
    """

    address: str = "local"
    cores: int = 1
    gpus: float = 0
    split_frames: int = SPLIT_FRAMES


def batch(
    rows: Sequence[Row],
    out: Path,
    *,
    at_once: int = 1,
    cluster: Cluster | None = None,
    on_progress: OnProgress | None = None,
) -> Iterator[Result]:
    """Make each row's film in the folder `out`, and yield what came of it as it ends; what was done before is not done again.

    at_once: films at work on this machine, where there is no cluster.  Raises UnisyncError for what stops all rows.
    """
    made, done = jobs_of(rows, out)
    yield from done
    names, num = {job.id: row for row, job in made}, len(done)
    todo = [job for _, job in made]
    for job in run_all(todo, at_once) if cluster is None else run_by_ray(todo, cluster):
        num += 1
        if on_progress:
            on_progress(Progress("films", num, len(rows)))
        yield result_of(names[job.id], job)


class Worker:
    """What one of Ray's actors can do. Jobs are named by their folders."""

    def __init__(self) -> None:
        self._staged: tuple[Job, Production] | None = None

    def come(self) -> None:
        """Be there."""

    def shots(self, folder: Path, split_frames: int) -> list[int]:
        """Look at a job's film; return the shots to be painted each by itself, none where that is not worth it."""
        job, production = self._stage(folder)
        if (job.state == "done" and job.out.is_file()) or sum(map(len, production.chosen)) <= split_frames:
            return []
        return [
            index
            for index, shot in enumerate(production.plan.shots)
            if any(track.name in production.cast for track in shot.tracks)
        ]

    def paint(self, folder: Path, shot: int) -> None:
        """Paint a shot into the job's folder."""
        from unisync.dubbing import paint_shot

        job, production = self._stage(folder)
        paint_shot(production, shot, keep(job, lambda found, painted: None).of)

    def finish(self, folder: Path) -> None:
        """Carry the job out, which paints what is not painted yet; wait for a process that is at work on it."""
        self._staged = None
        job = read(folder.parent, folder.name)
        while job.state == "running":
            time.sleep(LOOK_SECONDS)
            job = read(folder.parent, folder.name)
        if job.state in ("queued", "interrupted"):
            _enter(job)
            run(folder.parent, folder.name, alone=True)

    def _stage(self, folder: Path) -> tuple[Job, Production]:
        job = read(folder.parent, folder.name)
        if self._staged is None or self._staged[0].id != job.id:
            _enter(job)
            self._staged = job, stage(job)
        return self._staged


@dataclass(frozen=True)
class Task:
    """What a worker is given. shot: of `paint`.  tries: how many workers were lost over it."""

    what: Literal["shots", "paint", "finish"]
    job: Job
    shot: int = 0
    tries: int = 0


def run_by_ray(jobs: Sequence[Job], cluster: Cluster) -> Iterator[Job]:
    """Carry jobs out on a cluster and yield each as it has ended. Raises OptionError without Ray or its cluster."""
    with _connected(cluster) as crew:
        todo, left, num = deque(map(_first, jobs)), dict[str, set[int]](), 0
        while num < len(jobs):
            crew.give(todo)
            task, found, lost = crew.next()
            if task is None:  # a worker has come
                continue
            if lost and task.tries < TRIES:
                todo.appendleft(replace(task, tries=task.tries + 1))
            elif task.what == "finish":
                num += 1
                yield _ended(task.job, lost)
            else:
                shots = left.setdefault(task.job.id, set(found))
                todo.extendleft(Task("paint", task.job, shot) for shot in reversed(found))
                shots.discard(task.shot if task.what == "paint" else -1)
                if not shots:
                    todo.appendleft(Task("finish", task.job))


class Crew:
    """Ray's workers. One that is lost is replaced as soon as the cluster has room for another."""

    def __init__(self, ray: Any, cluster: Cluster, num: int) -> None:
        self._ray, self._cluster = ray, cluster
        self._actor = ray.remote(Worker).options(num_cpus=cluster.cores, num_gpus=cluster.gpus)
        self._idle, self._came = list[Any](), False
        self._busy: dict[Any, tuple[Any, Task | None]] = {}
        for _ in range(num):
            self._call()

    def give(self, todo: deque[Task]) -> None:
        """Give tasks to those who have none."""
        while todo and self._idle:
            worker, task = self._idle.pop(), todo.popleft()
            if task.what == "shots":
                ref = worker.shots.remote(task.job.folder, self._cluster.split_frames)
            elif task.what == "paint":
                ref = worker.paint.remote(task.job.folder, task.shot)
            else:
                ref = worker.finish.remote(task.job.folder)
            self._busy[ref] = worker, task

    def next(self) -> tuple[Task | None, list[int], str]:
        """Wait for a task to end; return it, the shots that were found, and how its worker was lost. None: one has come.

        What is wrong with a job itself is nothing here: `finish` comes upon it again, and writes it down.
        """
        (ref,), _ = self._ray.wait(list(self._busy), num_returns=1)
        worker, task = self._busy.pop(ref)
        found: list[int] | None = None
        try:
            with suppress(self._ray.exceptions.RayTaskError):
                found = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            self._ray.kill(worker)
            if not self._came:
                raise OptionError(
                    f"Ray's workers cannot begin ({error}); is unisync installed on all machines?"
                ) from error
            self._call()
            return task, [], f"its workers were lost ({type(error).__name__}); Ray's logs may say why"
        self._idle.append(worker)
        self._came = True
        return task, found or [], ""

    def close(self) -> None:
        """End all workers."""
        for worker in (*self._idle, *(worker for worker, _ in self._busy.values())):
            self._ray.kill(worker)

    def _call(self) -> None:
        worker = self._actor.remote()
        self._busy[worker.come.remote()] = worker, None


def _first(job: Job) -> Task:
    """Return the first task of a job; one that failed, or whose film is gone, is queued again."""
    if job.state in ("failed", "cancelled") or (job.state == "done" and not job.out.is_file()):
        job = retry(job.folder.parent, job.id)
    return Task("finish" if job.state == "done" else "shots", job)


def _ended(job: Job, lost: str) -> Job:
    """Return a job as it has ended; lost: why there may be no end."""
    job = read(job.folder.parent, job.id)
    return job if job.state in ("done", "failed", "cancelled") or not lost else replace(job, error=lost)


def _enter(job: Job) -> None:
    """Go where the paths in the job's options start from."""
    if job.home.is_dir():
        os.chdir(job.home)


@contextmanager
def _connected(cluster: Cluster) -> Iterator[Crew]:
    """Lend as many workers as the cluster has room for; they are ended afterwards."""
    try:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anyone outside
        import ray
    except ImportError as error:
        raise OptionError("Ray is missing; install it with: pip install 'unisync[ray]'") from error
    ours, crew = not ray.is_initialized(), None
    try:
        if ours:
            _connect(ray, cluster)
        room = ray.cluster_resources()
        num = int(room.get("CPU", 0) // cluster.cores)
        num = min(num, int(room.get("GPU", 0) // cluster.gpus)) if cluster.gpus else num
        if not num:
            raise OptionError(
                f"no worker of {cluster.cores} cores and {cluster.gpus:g} GPUs fits into the cluster: ask for fewer"
            )
        crew = Crew(ray, cluster, num)
        yield crew
    finally:
        if crew is not None:
            crew.close()
        if ours:
            ray.shutdown()


def _connect(ray: Any, cluster: Cluster) -> None:
    own = {"include_dashboard": False} if cluster.address == "local" else {}
    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR", **own)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise OptionError(
            f"there is no Ray cluster at {cluster.address!r} ({error}); start one, or take 'local'"
        ) from error
