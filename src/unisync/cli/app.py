"""The command line's frame: the app, one flag for every option, and what several commands take."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import typer
from typer.core import TyperGroup

from unisync import __version__
from unisync.errors import OptionError
from unisync.options import DubOptions, PrepareOptions, ScanOptions, ServeOptions, TrainOptions, hints

Chosen = TypeVar("Chosen", DubOptions, PrepareOptions)

app = typer.Typer(
    name="unisync",
    help="A film and new speech go in, the same film comes out with the lips speaking the new speech.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help comes in half the time
    context_settings={"help_option_names": ["-h", "--help"]},
)

Film = Annotated[Path, typer.Argument(metavar="FILM", help="A film or a picture.", show_default=False)]
Spoken = Annotated[
    Path | None,
    typer.Argument(metavar="SPEECH", help="Any file with sound, a film too; or --speak.", show_default=False),
]
Speak = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=FILE",
        help="A face, named as for --face, that speaks FILE instead; may be given often. All speeches sound together.",
    ),
]
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


def flags(
    options: type[DubOptions] | type[ScanOptions] | type[PrepareOptions] | type[TrainOptions] | type[ServeOptions],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one flag for every option; what is set arrives as the dictionary `values`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(command, eval_str=True).parameters.values())
        types = hints(options)
        added = []
        for item in fields(options):
            shown = "" if item.default is None else f" [default: {item.default}]"
            name = item.name.replace("_", "-")
            negated = f"/--no-{name}" if bool in (types[item.name], *get_args(types[item.name])) else ""
            flag = typer.Option(f"--{name}{negated}", help=item.metadata["help"] + shown)
            hint = Annotated[types[item.name] | None, flag]  # type: ignore[valid-type, name-defined]
            kind = inspect.Parameter.KEYWORD_ONLY
            added.append(inspect.Parameter(item.name, kind, default=None, annotation=hint))

        def run(**given: Any) -> None:
            values = {item.name: given.pop(item.name) for item in fields(options)}
            command(**given, values={name: value for name, value in values.items() if value is not None})

        kept = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own if p.name != "values"]
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__signature__ = inspect.Signature([*kept, *added])  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in (*kept, *added)}
        return run

    return decorate


def speeches(speak: list[str] | None) -> dict[str, Path]:
    """Return which face speaks which file. Raises OptionError."""
    given: dict[str, Path] = {}
    for text in speak or []:
        name, _, path = (part.strip() for part in text.partition("="))
        if not name or not path:
            raise OptionError(f"--speak {text}: expected NAME=FILE, a face and what it speaks")
        if name in given:
            raise OptionError(f"--speak {text}: {name} is to speak {given[name]} already; name every face once")
        given[name] = Path(path)
    return given


def chosen(options: type[Chosen], config: Path | None, values: dict[str, Any]) -> Chosen:
    """Return options by a file, and by flags before it."""
    return options.from_dict({**(options.read_toml(config) if config else {}), **values})


class _Verbs(TyperGroup):
    """A command with verbs of its own, whose first word may also be what its main verb takes."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


def group(name: str, text: str, *, runs: bool = True) -> typer.Typer:
    """Add a command that has verbs of its own. runs: `run` is its main one, and may be left out."""
    made = typer.Typer(cls=_Verbs if runs else TyperGroup, no_args_is_help=True, help=text)
    app.add_typer(made, name=name)
    return made
