"""Making datasets and weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unisync.options import PrepareOptions, TrainOptions
from unisync.types import OnProgress

if TYPE_CHECKING:
    from unisync.training.assemble import Prepared


def prepare(
    folder: Path | str,
    out: Path | str,
    *,
    options: PrepareOptions | None = None,
    on_progress: OnProgress | None = None,
) -> Prepared:
    """Write the dataset `out` from the films in a folder, or go on where that was stopped. Raises UnisyncError."""
    from unisync.training import prepare as preparing

    return preparing.prepare(Path(folder), Path(out), options or PrepareOptions(), on_progress)


def train(recipe: Path | str, *, options: TrainOptions | None = None) -> Path:
    """Train by a recipe and return the file written; a run that was stopped goes on. Raises UnisyncError."""
    from unisync.training.recipe import read_recipe
    from unisync.training.run import train_by

    return train_by(read_recipe(Path(recipe), options or TrainOptions()))
