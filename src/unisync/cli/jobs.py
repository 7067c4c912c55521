"""Commands about jobs: dubbing that is kept in folders, and goes on where it was stopped."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unisync.cli.app import Config, Film, Speak, Spoken, Verbose, app, chosen, flags, group, speeches
from unisync.cli.terminal import BAD_INPUT, bars, table, told
from unisync.options import DubOptions

if TYPE_CHECKING:
    from unisync.api.jobs import Job, Result

jobs = group("jobs", "Dub as jobs: folders that outlive the process at work on them.", runs=False)
Id = Annotated[str, typer.Argument(metavar="JOB", help="Its id, as `list` shows it.", show_default=False)]
Folder = Annotated[Path, typer.Option("--jobs", metavar="FOLDER", help="Where jobs lie.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="OUT", help="The film to write; else out.mp4 in the job's folder."),
]
Made = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where the films go.", show_default=False)]
AtOnce = Annotated[int, typer.Option("--jobs", metavar="NUMBER", help="Films at work at once.", min=1)]
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


@app.command()
@flags(DubOptions)
def batch(
    source: Annotated[
        str,
        typer.Argument(
            metavar="PAIRS.csv|GLOB",
            help="A table with the columns film, speech, out, speak (NAME=FILE; …) and any option by name; or films, "
            "as 'films/*.mp4'.",
            show_default=False,
        ),
    ],
    out: Made,
    values: dict[str, Any],
    speech: Annotated[
        Path | None, typer.Option(metavar="SPEECH", help="For films that have none of their own.")
    ] = None,
    speak: Speak = None,
    at_once: AtOnce = 1,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="By a Ray cluster instead: auto finds one, local starts one here."),
    ] = None,
    cores: Annotated[int, typer.Option(metavar="NUMBER", help="Of each of Ray's workers.", min=1)] = 1,
    gpus: Annotated[float, typer.Option(metavar="NUMBER", help="Of each of Ray's workers.", min=0)] = 0,
    config: Config = None,
    verbose: Verbose = False,
) -> None:
    """Dub many films into a folder; a JSON line says what came of each. What is done already is not done again."""
    with told(verbose):
        given = {**(DubOptions.read_toml(config) if config else {}), **values}
        own = speeches(speak)
        from unisync import api

        with bars() as on_progress:
            failed = _lines(
                api.jobs.batch(
                    source, out, speech=speech, speeches=own, values=given, at_once=at_once, ray=ray, cores=cores,
                    gpus=gpus, on_progress=on_progress,
                )
            )  # fmt: skip
    if failed:
        raise typer.Exit(BAD_INPUT)


@app.command()
@flags(DubOptions)
def watch(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where films and speeches arrive.", show_default=False)
    ],
    out: Made,
    values: dict[str, Any],
    at_once: AtOnce = 1,
    settle: Annotated[
        float, typer.Option(metavar="SECONDS", help="A file that stayed as it is for so long is whole.", min=0)
    ] = 3.0,
    once: Annotated[bool, typer.Option("--once", help="Leave when all that is there is done.")] = False,
    config: Config = None,
    verbose: Verbose = False,
) -> None:
    """Dub each film and speech of the same name that arrive in FOLDER; a JSON line says what came of it."""
    with told(verbose):
        options = chosen(DubOptions, config, values)
        from unisync import api

        failed = _lines(api.jobs.watch(folder, out, options=options, at_once=at_once, seconds=settle, once=once))
    if failed:
        raise typer.Exit(BAD_INPUT)


def _lines(results: Iterator[Result]) -> int:
    """Print results as JSON lines; return how many are not done."""
    failed = 0
    for result in results:
        print(json.dumps(asdict(result), ensure_ascii=False), flush=True)
        failed += result.state != "done"
    return failed


def _say(job: Job) -> None:
    for warning in (job.report or {}).get("warnings", []):
        print(f"warning: {warning}", file=sys.stderr)
    print(f"{job.id}: {job.state}{f', {job.error}' if job.error else f', {job.out}' if job.state == 'done' else ''}")
