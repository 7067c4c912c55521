"""Commands about jobs: dubbing that is kept in folders, and goes on where it was stopped."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unisync.cli.app import Config, Film, Speak, Spoken, Verbose, chosen, flags, group, speeches
from unisync.cli.terminal import BAD_INPUT, bars, table, told
from unisync.options import DubOptions

if TYPE_CHECKING:
    from unisync.api.jobs import Job

jobs = group("jobs", "Dub as jobs: folders that outlive the process at work on them.", runs=False)
Id = Annotated[str, typer.Argument(metavar="JOB", help="Its id, as `list` shows it.", show_default=False)]
Folder = Annotated[Path, typer.Option("--jobs", metavar="FOLDER", help="Where jobs lie.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="OUT", help="The film to write; else out.mp4 in the job's folder."),
]
JOBS = Path("jobs")


@jobs.command()
@flags(DubOptions)
def add(
    film: Film,
    values: dict[str, Any],
    speech: Spoken = None,
    speak: Speak = None,
    out: Out = None,
    folder: Folder = JOBS,
    config: Config = None,
    verbose: Verbose = False,
) -> None:
    """Make a job of dubbing FILM with SPEECH, and say its id."""
    with told(verbose):
        options, own = chosen(DubOptions, config, values), speeches(speak)
        from unisync import api

        print(api.jobs.create(folder, film, speech, out, options, speeches=own).id)


@jobs.command()
def run(
    job: Annotated[
        str | None, typer.Argument(metavar="[JOB]", help="Its id; else all that wait or were interrupted.")
    ] = None,
    folder: Folder = JOBS,
    dry: Annotated[bool, typer.Option("--dry-run", help="Paint nothing; say as JSON what would be done.")] = False,
    memory: Annotated[int | None, typer.Option(metavar="BYTES", help="Allocate no more than that.")] = None,
    time_limit: Annotated[float | None, typer.Option(metavar="SECONDS", help="Let the job fail after these.")] = None,
    verbose: Verbose = False,
) -> None:
    """Carry out JOB, or go on with it where it was stopped."""
    failed = 0
    with told(verbose), ExitStack() as limits:
        from unisync import api

        waiting = [j.id for j in api.jobs.list_jobs(folder) if j.state in ("queued", "interrupted")]
        for id_ in waiting if job is None else [job]:
            if dry:
                with bars() as on_progress:
                    found = api.jobs.dry_run(folder, id_, on_progress)
                print(json.dumps(found, indent=2, ensure_ascii=False))
                continue
            if memory is not None:
                api.jobs.limit_memory(memory)
            if time_limit is not None:
                limits.enter_context(api.jobs.limit_seconds(folder, id_, time_limit))
            with bars() as on_progress:
                done = api.jobs.run(folder, id_, on_progress, alone=True)
            _say(done)
            failed += done.state != "done"
    if failed:
        raise typer.Exit(BAD_INPUT)


@jobs.command("list")
def list_(folder: Folder = JOBS, verbose: Verbose = False) -> None:
    """List the jobs, the oldest first."""
    with told(verbose):
        from unisync import api

        for line in table(api.jobs.rows(api.jobs.list_jobs(folder))):
            print(line)


@jobs.command()
def show(job: Id, folder: Folder = JOBS, verbose: Verbose = False) -> None:
    """Say as JSON how JOB stands."""
    with told(verbose):
        from unisync import api

        print(json.dumps(api.jobs.read(folder, job).to_dict(), indent=2, ensure_ascii=False))


@jobs.command()
def cancel(
    job: Id,
    folder: Folder = JOBS,
    force: Annotated[bool, typer.Option("--force", help="Kill its process, if it serves nothing else.")] = False,
    verbose: Verbose = False,
) -> None:
    """Cancel JOB; one at work ends at its next window or frame."""
    with told(verbose):
        from unisync import api

        _say(api.jobs.cancel(folder, job, force=force))


@jobs.command()
def retry(job: Id, folder: Folder = JOBS, verbose: Verbose = False) -> None:
    """Queue JOB again, which failed or was cancelled."""
    with told(verbose):
        from unisync import api

        _say(api.jobs.retry(folder, job))


@jobs.command()
@flags(DubOptions)
def remix(
    job: Id,
    values: dict[str, Any],
    speech: Annotated[Path | None, typer.Option(metavar="SPEECH", help="Another speech.")] = None,
    speak: Speak = None,
    out: Out = None,
    folder: Folder = JOBS,
    verbose: Verbose = False,
) -> None:
    """Make a new job of JOB with other options, and say its id; its film is not looked at again."""
    with told(verbose):
        own = speeches(speak) if speak else None
        from unisync import api

        print(api.jobs.remix(folder, job, values, speech=speech, speeches=own, out=out).id)


@jobs.command()
def delete(job: Id, folder: Folder = JOBS, verbose: Verbose = False) -> None:
    """Take JOB's folder away; a film that it wrote elsewhere stays."""
    with told(verbose):
        from unisync import api

        api.jobs.delete(folder, job)


def _say(job: Job) -> None:
    for warning in (job.report or {}).get("warnings", []):
        print(f"warning: {warning}", file=sys.stderr)
    print(f"{job.id}: {job.state}{f', {job.error}' if job.error else f', {job.out}' if job.state == 'done' else ''}")
