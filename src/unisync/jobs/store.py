"""Jobs as folders: made, read, cancelled, tried again, changed, deleted. Whoever writes one holds its lock."""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import shutil
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from unisync import __version__
from unisync.errors import JobError, OptionError
from unisync.jobs.files import Locked, Print, born, holder, lock, locked, now, print_of
from unisync.options import DubOptions
from unisync.whole import write_whole

log = logging.getLogger(__name__)

State = Literal["queued", "running", "interrupted", "done", "failed", "cancelled"]
"""interrupted: running by what is written, but its process is gone. It is never written, and `run` goes on with it."""
JOB, PLAN, KEPT, CANCEL = "job.json", "plan.npz", "kept", "cancel"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
FORCE_SECONDS = 5.0


@dataclass(frozen=True)
class Job:
    """What is asked for, and how it stands. Times are ISO 8601, in UTC.

    folder: the job's own.  speeches: faces that say something of their own.  home: the folder that paths in the
    options start from.  sources: the prints of film and speeches when the job was made.  origin: what it is a remix of.
    error: one sentence.  report: as `Report.to_dict` has it.  version: of unisync, at the last attempt.
    """

    folder: Path
    id: str
    film: Path
    speech: Path | None
    out: Path
    speeches: Mapping[str, Path] = field(default_factory=dict)
    options: DubOptions = DubOptions()  # noqa: RUF009 - it is frozen
    home: Path = Path()
    sources: Mapping[str, Print | None] = field(default_factory=dict)
    origin: str | None = None
    state: State = "queued"
    attempts: int = 0
    created: str = ""
    started: str | None = None
    finished: str | None = None
    error: str | None = None
    report: dict[str, Any] | None = None
    version: str = __version__

    @property
    def files(self) -> list[Path]:
        """Film and speeches."""
        return [self.film, *([self.speech] if self.speech else []), *self.speeches.values()]

    @property
    def same(self) -> bool:
        """Whether film and speeches are the files that they were."""
        return all(print_of(Path(name)) == known for name, known in self.sources.items())

    def to_dict(self) -> dict[str, Any]:
        """Return all but the folder, as JSON holds it."""
        values = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "folder"}
        values |= {name: str(values[name]) for name in ("film", "out", "home")}
        values["speech"] = None if self.speech is None else str(self.speech)
        values["speeches"] = {name: str(path) for name, path in self.speeches.items()}
        usual = DubOptions().to_dict()
        values["options"] = {name: value for name, value in self.options.to_dict().items() if value != usual[name]}
        return values


def create(
    jobs: Path | str,
    film: Path | str,
    speech: Path | str | None = None,
    out: Path | str | None = None,
    options: DubOptions | None = None,
    *,
    speeches: Mapping[str, Path | str] | None = None,
    id: str | None = None,  # noqa: A002 - what it is called everywhere
) -> Job:
    """Make a job in the folder `jobs`; it waits until it is run.

    out: by default out.mp4 in the job's own folder.  id: by default a new one; one that is there already is an error.
    Raises OptionError for files that are not there, JobError for a folder that cannot be written.
    """
    id = id or f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"  # noqa: A001
    folder = folder_of(jobs, id)
    job = Job(
        folder=folder,
        id=id,
        film=_absolute(film),
        speech=None if speech is None else _absolute(speech),
        out=folder / "out.mp4" if out is None else _absolute(out),
        speeches={name: _absolute(path) for name, path in (speeches or {}).items()},
        options=options or DubOptions(),
        home=Path.cwd(),
        created=now(),
    )
    if len(job.files) == 1:
        raise OptionError("nothing is said: name a speech")
    job = replace(job, sources={str(path): print_of(path) for path in job.files})
    missing = next((name for name, known in job.sources.items() if known is None), None)
    if missing is not None:
        raise OptionError(f"{missing}: there is no such file; name a film and what is spoken")
    try:
        folder.mkdir(parents=True)
        save(job)
    except FileExistsError:
        raise JobError(f"there is a job {id!r} in {jobs} already; delete it, or choose another id") from None
    except OSError as error:
        raise JobError(f"{folder} cannot be written ({error.strerror}); choose another folder for jobs") from error
    return job


def read(jobs: Path | str, id: str) -> Job:  # noqa: A002
    """Return a job as it stands. Raises JobError where there is none, or what is there is damaged."""
    folder = folder_of(jobs, id)
    job = load(folder)
    if job.state == "running" and not locked(folder):
        job = load(folder)  # it may have ended in between
        job = replace(job, state="interrupted") if job.state == "running" else job
    return job


def list_jobs(jobs: Path | str) -> list[Job]:
    """Return the jobs of a folder, the oldest first; damaged ones are left out with a warning."""
    found = []
    for place in Path(jobs).glob(f"*/{JOB}"):
        try:
            found.append(read(jobs, place.parent.name))
        except JobError as error:
            log.warning("%s", error)
    return sorted(found, key=lambda job: (job.created, job.id))


def cancel(jobs: Path | str, id: str, *, force: bool = False) -> Job:  # noqa: A002
    """Cancel a job. One at work ends at its next window or frame, and this returns before that.

    force: kill its process where that serves nothing else (`start`), and wait for its end.
    Raises JobError for a job that has ended.
    """
    job = read(jobs, id)
    if job.state in ("done", "failed", "cancelled"):
        raise JobError(f"job {id} is {job.state} already: there is nothing to cancel")
    (job.folder / CANCEL).touch()
    if force and locked(job.folder):
        _kill(job.folder)
    with suppress(Locked), lock(job.folder):
        job = load(job.folder)
        if job.state in ("queued", "running"):
            shutil.rmtree(job.folder / KEPT, ignore_errors=True)
            return save(replace(job, state="cancelled", finished=now()))
    return read(jobs, id)


def retry(jobs: Path | str, id: str) -> Job:  # noqa: A002
    """Queue a job again that failed, was cancelled, or whose film is not wanted as it is. Raises JobError if it is at work."""
    folder = folder_of(jobs, id)
    load(folder)
    try:
        with lock(folder):
            (folder / CANCEL).unlink(missing_ok=True)
            return save(replace(load(folder), state="queued", finished=None, error=None, report=None))
    except Locked:
        raise JobError(f"job {id} is at work: cancel it first") from None


def remix(
    jobs: Path | str,
    id: str,  # noqa: A002
    changes: Mapping[str, Any] | None = None,
    *,
    speech: Path | str | None = None,
    speeches: Mapping[str, Path | str] | None = None,
    out: Path | str | None = None,
) -> Job:
    """Make a new job of another one, with other options or speeches; the film is not looked at again where it need not be.

    changes: options by name.  speech, speeches: None leaves them.  out: by default in the new job's folder.
    """
    old = read(jobs, id)
    options = DubOptions.from_dict({**old.options.to_dict(), **(changes or {})})
    new = create(
        jobs,
        old.film,
        old.speech if speech is None else speech,
        out,
        options,
        speeches=old.speeches if speeches is None else speeches,
    )
    film = str(old.film)
    looked_alike = (options.box, options.plan) == (old.options.box, old.options.plan)
    if looked_alike and old.sources[film] == new.sources[film] and (old.folder / PLAN).is_file():
        shutil.copyfile(old.folder / PLAN, new.folder / PLAN)
    with lock(new.folder):
        return save(replace(new, origin=id, home=old.home))


def delete(jobs: Path | str, id: str) -> None:  # noqa: A002
    """Take a job's folder away; a film that was written elsewhere stays. Raises JobError if it is at work."""
    folder = folder_of(jobs, id)
    if not (folder / JOB).exists():
        raise JobError(f"there is no job {id!r} in {jobs}; `unisync jobs list` says which there are")
    gone = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.gone")
    try:
        with lock(folder):
            folder.rename(gone)
    except Locked:
        raise JobError(f"job {id} is at work: cancel it first") from None
    except OSError as error:
        raise JobError(f"{folder} cannot be deleted ({error.strerror}); see to its folder's rights") from error
    shutil.rmtree(gone, ignore_errors=True)


def load(folder: Path) -> Job:
    """Return a job as it is written. Raises JobError."""
    try:
        values = json.loads((folder / JOB).read_text("utf-8"))
        values |= {name: Path(values[name]) for name in ("film", "out", "home")}
        values["speech"] = None if values["speech"] is None else Path(values["speech"])
        values["speeches"] = {name: Path(path) for name, path in values["speeches"].items()}
        values["sources"] = {name: known and (known[0], known[1]) for name, known in values["sources"].items()}
        values["options"] = DubOptions.from_dict(values["options"])
        return Job(folder=folder, **values)
    except FileNotFoundError:
        raise JobError(
            f"there is no job {folder.name!r} in {folder.parent}; `unisync jobs list` says which there are"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OptionError) as error:
        raise JobError(f"{folder / JOB} is damaged ({error}); delete that folder") from error


def save(job: Job) -> Job:
    """Write a job and return it; for the one who holds its lock."""
    write_whole(job.folder / JOB, json.dumps(job.to_dict(), indent=1, ensure_ascii=False) + "\n", durable=True)
    return job


def folder_of(jobs: Path | str, id: str) -> Path:  # noqa: A002
    """Return where a job lies. Raises JobError for what is no id."""
    if not NAME.fullmatch(id):
        raise JobError(f"{id!r} is no job's id: letters, digits, and -_. within")
    return Path(jobs).absolute() / id


def _absolute(path: Path | str) -> Path:
    return Path(path).absolute()


def _kill(folder: Path) -> None:
    """Kill who runs a job, if it is still the same process and serves nothing else; wait until its lock is free."""
    known = holder(folder)
    if known.get("alone") and born(known["pid"]) == known["born"] is not None:
        with suppress(ProcessLookupError):
            os.kill(known["pid"], signal.SIGKILL)
        end = time.monotonic() + FORCE_SECONDS
        while locked(folder) and time.monotonic() < end:
            time.sleep(0.02)
