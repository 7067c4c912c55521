"""Commands that look at a film and dub it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unisync.cli.app import Config, Film, Speak, Spoken, Verbose, app, chosen, flags, speeches
from unisync.cli.terminal import bars, table, told
from unisync.options import DubOptions, ScanOptions

if TYPE_CHECKING:
    from unisync.types import Report

INSPECTED = {"present": 3, "damaged": 4, "absent": 5}
"""Exit codes of inspect; 0 is verified, 2 a file that cannot be read."""


@app.command()
@flags(DubOptions)
def dub(
    film: Film,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="The film to write.", show_default=False)],
    values: dict[str, Any],
    speech: Spoken = None,
    speak: Speak = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Paint nothing; say as JSON what would be done.")] = False,
    config: Config = None,
    verbose: Verbose = False,
) -> None:
    """Dub FILM with SPEECH into OUT."""
    with told(verbose):
        options = chosen(DubOptions, config, values)
        own = speeches(speak)
        from unisync import api

        if dry_run:  # which prints nothing but JSON
            with bars() as on_progress:
                found = api.outline(film, speech, out, speeches=own, options=options, on_progress=on_progress)
            print(json.dumps(found, indent=2, ensure_ascii=False))
        elif api.follows():
            api.follow(options)
        else:
            with api.leading(options):
                for line in api.parts(options):
                    print(line, flush=True)
                with bars() as on_progress:
                    report = api.dub(film, speech, out, speeches=own, options=options, on_progress=on_progress)
            _say(report)


@app.command()
@flags(ScanOptions)
def scan(
    film: Film,
    values: dict[str, Any],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="PLAN", help="Save the plan, for dub --plan.")
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(metavar="PICTURE", help="Where the faces are drawn; else FILM's name with -faces.png."),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """List the faces in FILM, and draw them with their names."""
    with told(verbose):
        options = ScanOptions.from_dict(values)
        from unisync import api

        with bars() as on_progress:
            plan = api.scan(film, options=options, on_progress=on_progress)
        if out is not None:
            api.save_plan(plan, out)
        for line in table(api.rows(plan)):
            print(line)
        print(f"{len(plan.seconds)} frames, {len(plan.shots)} shots, {len(plan.tracks)} faces")
        if plan.tracks:
            sheet = sheet or Path(f"{film.stem}-faces.png")
            api.contact_sheet(plan, sheet)
            print(f"drawn in {sheet}")


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where the films go.")] = Path("demo"),
    seconds: Annotated[float, typer.Option(help="Length of the film.", min=0.2, max=60)] = 5.0,
    method: Annotated[str, typer.Option(help="What paints the lips.")] = "unisync",
    report: Annotated[str | None, typer.Option(metavar="FILE.json", help="Write what was done to this file.")] = None,
    verbose: Verbose = False,
) -> None:
    """Make a small film and dub it."""
    with told(verbose):
        options = DubOptions(method=method, report=report)
        from unisync import api

        with bars() as on_progress:
            made = api.demo(folder, seconds=seconds, options=options, on_progress=on_progress)
        print(f"before: {made.film}\nafter:  {made.out}")
        _say(made)


@app.command()
def inspect(
    film: Annotated[Path, typer.Argument(metavar="FILE", help="A film, picture or sound.", show_default=False)],
    trust: Annotated[
        Path | None, typer.Option(metavar="FILE.pem", help="Authorities, one of which must vouch for the signer.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    verbose: Verbose = False,
) -> None:
    """Say what FILE tells of its making. Leaves with 0: verified; 3: present, unproved; 4: damaged; 5: absent."""
    with told(verbose):
        from unisync import api

        found = api.inspect(film, trust=trust)
        if as_json:
            print(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
        else:
            print("\n".join(found.lines))
    if found.state != "verified":
        raise typer.Exit(INSPECTED[found.state])


def _say(report: Report) -> None:
    for warning in report.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"{report.out}: {report.line}")
