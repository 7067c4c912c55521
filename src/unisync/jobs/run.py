"""A job carried out in this process: looked at, painted, written; what was finished before is not done again."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import resource
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unisync import __version__
from unisync.errors import Cancelled, JobError, MediaError, OptionError, UnisyncError
from unisync.jobs.events import Events
from unisync.jobs.files import Locked, holder, lock, now, print_of
from unisync.jobs.kept import Kept
from unisync.jobs.store import CANCEL, KEPT, PLAN, Job, folder_of, load, read, save
from unisync.types import OnProgress, Progress, Report
from unisync.whole import whole, write_whole

if TYPE_CHECKING:
    from unisync.production import Production

LOG = "log.txt"
PARTS = ".unisync-*"
"""What is being written."""
WRITTEN = {"codec", "crf", "preset", "report", "preview", "provenance", "c2pa_cert", "c2pa_key"}
"""Options that change how a film is written and not what is painted."""


def run(
    jobs: Path | str,
    id: str,  # noqa: A002
    on_progress: OnProgress | None = None,
    *,
    alone: bool = False,
) -> Job:
    """Carry a job out in this process, or go on where it was stopped; return it done, failed or cancelled.

    One that is done is returned as it is. When the process is killed, or by KeyboardInterrupt or SystemExit, the job is
    "interrupted". alone: the process serves nothing else.
    Raises JobError where it failed or was cancelled before (`retry`), or is at work in another process.
    """
    folder = folder_of(jobs, id)
    load(folder)
    try:
        with lock(folder, alone):
            return _run(load(folder), on_progress)
    except Locked:
        raise JobError(f"job {id} is at work already, in process {holder(folder).get('pid')}") from None


def dry_run(jobs: Path | str, id: str, on_progress: OnProgress | None = None) -> dict[str, Any]:  # noqa: A002
    """Return what a job would do, as `production.outline` has it; nothing is painted, the plan is kept. Raises UnisyncError."""
    from unisync.production import outline

    job = read(jobs, id)
    return outline(stage(job, on_progress))


def stage(job: Job, on_progress: OnProgress | None = None) -> Production:
    """Look at everything a job needs; its film once, since the plan is kept in its folder. Raises UnisyncError."""
    from unisync.production import settle
    from unisync.scanning import save_plan

    plan, options = job.folder / PLAN, job.options
    fresh = options.plan is None and not plan.is_file()
    if options.plan is None and plan.is_file():
        # the plan knows the box's track by its name, and box and plan exclude each other
        options = replace(options, plan=str(plan), box=None, face="box1" if options.box else options.face)
    production = settle(job.film, job.speech, job.out, options, on_progress, job.speeches)
    if fresh:
        save_plan(production.plan, plan)
    return production


def keep(job: Job, on_window: Callable[[int, int], None]) -> Kept:
    """Return what keeps a staged job's painted windows: those of the same sources, plan, options, weights and version."""
    options = {name: value for name, value in job.options.to_dict().items() if name not in WRITTEN}
    texts = [part for text in options.values() if isinstance(text, str) for part in (text, *text.split(","))]
    named = [
        job.home / name for text in texts for name in (text, text.rpartition(":")[0])
    ]  # a LoRA's has its scale behind
    ours = Path(str(files("unisync") / "weights")).glob("*.safetensors")
    prints = {str(path): print_of(path) for path in (*job.files, *named, *sorted(ours)) if path.is_file()}
    plan = Path(job.home / job.options.plan) if job.options.plan else job.folder / PLAN
    cast = [str(job.speech), {name: str(path) for name, path in job.speeches.items()}]
    facts = [__version__, cast, options, prints, hashlib.sha256(plan.read_bytes()).hexdigest()]
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return Kept(job.folder / KEPT, key, on_window)


def _run(job: Job, on_progress: OnProgress | None) -> Job:
    if job.state == "done" and job.out.is_file():
        return job
    if job.state in ("failed", "cancelled"):
        raise JobError(f"job {job.id} {'was ' * (job.state == 'cancelled')}{job.state}: retry it first")
    if not job.same:  # what was found out about other files is worth nothing
        (job.folder / PLAN).unlink(missing_ok=True)
        job = replace(job, sources={str(path): print_of(path) for path in job.files})
    job = replace(job, state="running", attempts=job.attempts + 1, started=now(), finished=None, version=__version__)
    save(job)
    told = Events(job.folder)
    told.tell("running", attempt=job.attempts)
    with _logged(job):
        job = replace(job, **_attempt(job, told, on_progress), finished=now())
    if job.state != "failed":
        shutil.rmtree(job.folder / KEPT, ignore_errors=True)
    save(job)
    told.tell(job.state, **({"error": job.error} if job.error else {}))
    return job


def _attempt(job: Job, told: Events, on_progress: OnProgress | None) -> dict[str, Any]:
    """Return the state that a job comes to, with its report or error."""

    def check() -> None:
        if (job.folder / CANCEL).exists():
            raise Cancelled(f"job {job.id} was cancelled")

    def progress(progress: Progress) -> None:
        check()
        told.progress(progress)
        if on_progress:
            on_progress(progress)

    def window(found: int, painted: int) -> None:
        check()
        told.tell("window", kept=found, painted=painted)

    try:
        check()
        report = _made(job, progress, window)
    except Cancelled as error:
        return {"state": "cancelled", "error": str(error) or None}
    except MediaError as error:
        return {"state": "failed", "error": f"{error}{_memory_said()}"}
    except UnisyncError as error:
        return {"state": "failed", "error": str(error)}
    except MemoryError:
        said = "more memory was needed than there is; allow more, or dub fewer films at once"
        return {"state": "failed", "error": f"{said}{_memory_said()}"}
    except Exception as error:  # a mistake of ours: the job tells it, its log where
        traceback.print_exc(file=_Written(job))
        kind = type(error).__name__
        return {
            "state": "failed",
            "error": f"unforeseen {kind} ({error}); {job.folder / LOG} says where{_memory_said()}",
        }
    return {"state": "done", "error": None, "report": report.to_dict()}


def _made(job: Job, progress: OnProgress, window: Callable[[int, int], None]) -> Report:
    from unisync.dubbing import heard, produce

    begun = time.monotonic()
    for part in job.folder.glob(PARTS):  # a killed attempt's
        shutil.rmtree(part) if part.is_dir() else part.unlink()
    if not job.out.parent.is_dir():
        raise OptionError(f"{job.out.parent} is no folder: make it, or choose another place for the film")
    report_path = None if job.options.report is None else job.home / job.options.report
    if report_path is not None and not report_path.parent.is_dir():
        raise OptionError(f"{report_path}: the report cannot be written there; name a file in a folder that exists")
    with heard() as warnings:
        production = stage(job, progress)
        made = job.folder / f"out{job.out.suffix.lower()}"  # so that what a kill leaves behind is found
        report = produce(replace(production, out=made), progress, keep(job, window).of, begun)
    _move(made, job)
    report = replace(report, out=str(job.out), warnings=[*report.warnings, *warnings])
    if report_path is not None:
        write_whole(report_path, report.to_json(), durable=True)
    return report


def _memory_said() -> str:
    """Return a remark on the memory this process is limited to: what fails for want of it says all sorts of things."""
    allowed = resource.getrlimit(resource.RLIMIT_DATA)[0]
    return "" if allowed == resource.RLIM_INFINITY else f" (it was allowed {allowed} bytes of memory)"


def _move(made: Path, job: Job) -> None:
    """Bring a film to where it is wanted, whole or not at all."""
    try:
        os.replace(made, job.out)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise MediaError(f"{job.out} cannot be written ({error.strerror}); choose another place") from error
        with whole(job.out) as part:
            shutil.copyfile(made, part)
        made.unlink()


class _Written:
    """A file as `print_exc` writes it: the end of a job's log."""

    def __init__(self, job: Job) -> None:
        self._path = job.folder / LOG

    def write(self, text: str) -> int:
        with self._path.open("a", encoding="utf-8") as file:
            return file.write(text)


@contextmanager
def _logged(job: Job) -> Iterator[None]:
    """Write to the job's log what the floors below say."""
    log, written = logging.getLogger("unisync"), logging.FileHandler(job.folder / LOG, encoding="utf-8")
    written.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    log.addHandler(written)
    try:
        yield
    finally:
        log.removeHandler(written)
        written.close()
