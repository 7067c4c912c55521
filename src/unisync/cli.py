"""The command line. It reads flags and says what happened; the work is behind `api`.

`--help` has to come at once, so everything heavy is imported inside the commands.
"""

from __future__ import annotations

import inspect
import signal
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, TypeVar, get_args

import typer
from typer.core import TyperGroup

from unisync import __version__
from unisync.options import DubOptions, PrepareOptions, ScanOptions, TrainOptions, hints
from unisync.terminal import BAD_INPUT, bars, table, told

if TYPE_CHECKING:
    from unisync.types import Report

Chosen = TypeVar("Chosen", DubOptions, PrepareOptions)

app = typer.Typer(
    name="unisync",
    help="A film and new speech go in, the same film comes out with the lips speaking the new speech.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help comes in half the time
    context_settings={"help_option_names": ["-h", "--help"]},
)

Film = Annotated[Path, typer.Argument(metavar="FILM", help="A film or a picture.", show_default=False)]
Speech = Annotated[Path, typer.Argument(metavar="SPEECH", help="Any file with sound, a film too.", show_default=False)]
Config = Annotated[Path | None, typer.Option(metavar="FILE.toml", help="Read options from a file; flags go before it.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show where an error comes from.")]


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"unisync {__version__}")
        raise typer.Exit


@app.callback()
def unisync(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """A film and new speech go in, the same film comes out with the lips speaking the new speech."""


def _flags(
    options: type[DubOptions] | type[ScanOptions] | type[PrepareOptions] | type[TrainOptions],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one flag for every option; what is set arrives as the dictionary `values`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(command, eval_str=True).parameters.values())
        types = hints(options)
        flags = []
        for item in fields(options):
            shown = "" if item.default is None else f" [default: {item.default}]"
            name = item.name.replace("_", "-")
            negated = f"/--no-{name}" if bool in (types[item.name], *get_args(types[item.name])) else ""
            flag = typer.Option(f"--{name}{negated}", help=item.metadata["help"] + shown)
            hint = Annotated[types[item.name] | None, flag]  # type: ignore[valid-type, name-defined]
            kind = inspect.Parameter.KEYWORD_ONLY
            flags.append(inspect.Parameter(item.name, kind, default=None, annotation=hint))

        def run(**given: Any) -> None:
            values = {item.name: given.pop(item.name) for item in fields(options)}
            command(**given, values={name: value for name, value in values.items() if value is not None})

        kept = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own if p.name != "values"]
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__signature__ = inspect.Signature([*kept, *flags])  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in (*kept, *flags)}
        return run

    return decorate


def _chosen(options: type[Chosen], config: Path | None, values: dict[str, Any]) -> Chosen:
    """Return options by a file, and by flags before it."""
    return options.from_dict({**(options.read_toml(config) if config else {}), **values})


@app.command()
@_flags(DubOptions)
def dub(
    film: Film,
    speech: Speech,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="The film to write.", show_default=False)],
    values: dict[str, Any],
    config: Config = None,
    verbose: Verbose = False,
) -> None:
    """Dub FILM with SPEECH into OUT."""
    with told(verbose):
        options = _chosen(DubOptions, config, values)
        from unisync import api

        with bars() as on_progress:
            report = api.dub(film, speech, out, options=options, on_progress=on_progress)
        _say(report)


@app.command()
@_flags(ScanOptions)
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
@_flags(PrepareOptions)
def prepare(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the films are.", show_default=False)],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DATASET", help="The folder to write.", show_default=False)
    ],
    values: dict[str, Any],
    config: Config = None,
    verbose: Verbose = False,
) -> None:
    """Make a dataset from the films in FOLDER, or go on."""
    with told(verbose):
        options = _chosen(PrepareOptions, config, values)
        from unisync import api

        with bars() as on_progress:
            made = api.prepare(folder, out, options=options, on_progress=on_progress)
        for film, why in made.unreadable.items():
            print(f"warning: {film}: {why}", file=sys.stderr)
        for name, number in made.dropped.items():
            print(f"{number:8d} dropped by {name}")
        print(
            f"{out}: {made.samples} of {made.candidates} samples, {made.seconds / 60:.1f} min from {made.films} films, "
            f"{made.held_seconds / 60:.1f} min held out; look at {out / 'summary.html'}"
        )


@app.command()
@_flags(TrainOptions)
def train(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE.toml", help="What is trained, and how.", show_default=False)
    ],
    values: dict[str, Any],
    verbose: Verbose = False,
) -> None:
    """Train by a recipe; a run that was stopped goes on."""
    with told(verbose):
        options = TrainOptions.from_dict(values)
        from unisync import api

        print(f"written: {api.train(recipe, options=options)}")


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
def doctor(
    backbone: Annotated[Path | None, typer.Option(metavar="PATH", help="Say instead what a public model is.")] = None,
    adapter: Annotated[Path | None, typer.Option(metavar="PATH", help="What adds sound to it.")] = None,
    vae: Annotated[Path | None, typer.Option(metavar="PATH", help="Its autoencoder.")] = None,
    lora: Annotated[list[Path] | None, typer.Option(metavar="PATH", help="For it; may be given often.")] = None,
    verbose: Verbose = False,
) -> None:
    """Say what this machine lacks, and the command that mends it; or whether weights go together."""
    with told(verbose):
        from unisync import api

        if backbone is not None:
            for line in api.recognise(backbone, adapter=adapter, vae=vae, loras=lora or []):
                print(line)
            return
        lacking = 0
        for check in api.doctor():
            mark = "ok     " if check.ok else "MISSING" if check.needed else "note   "
            print(f"{mark} {check.name}: {check.found}", flush=True)
            if not check.ok and check.mend:
                print(f"          mend it with: {check.mend}")
            lacking += check.needed and not check.ok
        print("all that is needed is there" if not lacking else f"{lacking} needed and missing")
    if lacking:
        raise typer.Exit(1)


@app.command()
def models(
    do: Annotated[
        Literal["list", "where", "check"],
        typer.Argument(
            metavar="list|where|check",
            help="list: which files are known, and which are there; where: print the folder; check: read those there.",
            show_default=False,
        ),
    ],
    folder: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where they lie; else UNISYNC_MODELS, or the user's own folder."),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Say which published weights are there, for metrics of papers."""
    with told(verbose):
        from unisync import api

        num = damaged = 0
        if do == "where":
            print(api.models_folder(folder))
        elif do == "list":
            for line in table(api.model_rows(folder)):
                print(line)
        else:
            for found in api.check_models(folder):
                print(found.problem or f"{found.path}: {found.state}", flush=True)
                num, damaged = num + 1, damaged + bool(found.problem)
            print(f"{num} files, {damaged} damaged")
    if damaged:
        raise typer.Exit(BAD_INPUT)


class _Verbs(TyperGroup):
    """A command with verbs of its own, whose first word may also be what its main verb takes."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


def _group(name: str, text: str) -> typer.Typer:
    """Add a command that has verbs of its own."""
    group = typer.Typer(cls=_Verbs, no_args_is_help=True, help=text)
    app.add_typer(group, name=name)
    return group


evaluate = _group("evaluate", "Evaluate methods on films: `unisync evaluate SUITE.toml`.")
Kept = Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where results go.", show_default=False)]
Written = Annotated[Path, typer.Option("--out", "-o", metavar="SUITE", help="The suite to write.", show_default=False)]
Films = Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the films lie.", show_default=False)]


@evaluate.command()
def run(
    suite: Annotated[Path, typer.Argument(metavar="SUITE", help="The suite's TOML file.", show_default=False)],
    out: Kept,
    films: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Films for a suite that names no clips.")] = None,
    jobs: Annotated[int, typer.Option(metavar="NUMBER", help="Films at work at once.", min=1)] = 1,
    ratings: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="What people said on rate.html; may be given often.")
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Make and judge every film of SUITE, or go on; write results, tables and a report."""
    with told(verbose):
        from unisync import api

        with bars() as on_progress:
            found = api.evaluate(suite, out, films=films, jobs=jobs, ratings=ratings or [], on_progress=on_progress)
        print(found.text)
        print(f"{found.report}: {found.finished} of {found.cells} films made, {found.failed} failed")


@evaluate.command()
def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="The folder of an evaluation.", show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="B", help="The folder of another.", show_default=False)],
    verbose: Verbose = False,
) -> None:
    """Say what changed from A to B, and what of it is beyond noise."""
    with told(verbose):
        from unisync import api

        print(api.compare(first, second))


@evaluate.command("import")
def import_(
    folder: Films,
    out: Written,
    layout: Annotated[
        str, typer.Option(metavar="LAYOUT", help="plain, hdtf, aigc-lipsync, realworld-lipsync; auto recognises them.")
    ] = "auto",
    verbose: Verbose = False,
) -> None:
    """Write a suite of the films in FOLDER as a published benchmark has them."""
    with told(verbose):
        from unisync import api

        print(f"{out}: {api.import_suite(folder, out, layout=layout)} clips")


@evaluate.command()
def build(
    folder: Films,
    out: Written,
    per_cell: Annotated[int, typer.Option(metavar="NUMBER", help="At most so many films of a kind; 0 is all.")] = 0,
    verbose: Verbose = False,
) -> None:
    """Measure the films in FOLDER and write a suite arranged by scene, light and character."""
    with told(verbose):
        from unisync import api

        with bars() as on_progress:
            rows = api.build_suite(folder, out, per_cell=per_cell, on_progress=on_progress)
        for line in table(rows):
            print(line)
        print(f"written: {out}")


def _say(report: Report) -> None:
    for warning in report.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"{report.out}: {report.line}")


def _terminated(signum: int, _frame: object) -> NoReturn:
    """Leave the way an error does, so that half-written files are removed."""
    sys.exit(128 + signum)


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGTERM, _terminated)
    app(prog_name="unisync")
