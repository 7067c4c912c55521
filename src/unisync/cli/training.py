"""Commands that make datasets and weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from unisync.cli.app import Config, Verbose, app, chosen, flags
from unisync.cli.terminal import bars, told
from unisync.options import PrepareOptions, TrainOptions


@app.command()
@flags(PrepareOptions)
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
        options = chosen(PrepareOptions, config, values)
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
@flags(TrainOptions)
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
