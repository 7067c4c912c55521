"""A dataset's windows as a large public model is told of them, made once by the model's own autoencoder, ears and eyes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from torch import Tensor

from unisync.backbones.base import Geometry, Given
from unisync.backbones.mini import embedded_weights
from unisync.backbones.speech_encoders import Heard
from unisync.backbones.wan.encoding import Encoders, geometry_of
from unisync.backbones.wan.parts import Parts, gather
from unisync.errors import OptionError
from unisync.nets.transformer import Condition
from unisync.nets.weights import read_weights
from unisync.options import DubOptions
from unisync.training.dataset import Row, Sample, read_rows, read_sample
from unisync.training.pairs import PairedRecipe, partners
from unisync.training.windows import fill_windows, goals
from unisync.types import Sound, Window

if TYPE_CHECKING:
    from accelerate import Accelerator

PARTS = ("train", "held")
Bounds = tuple[float, float]
"""How far apart the poses of a pseudo-pair may be, and how far apart its lips' openings must be, both in canvas sides."""


def make_windows(options: DubOptions, dataset: Path, work: Path, process: Accelerator, recipe: PairedRecipe) -> Path:
    """Return the folder with the windows of all parts of a dataset; those that are not there yet are made.

    options: the model and its parts, as dubbing takes them.  recipe: says whether windows have pseudo-pairs.
    Of several processes each makes its share.
    Raises UnisyncError, before anything is encoded, if the model's parts or the dataset do not do.
    """
    parts = gather(options)
    geometry = geometry_of(parts, options)
    bounds = _bounds(recipe) if recipe.paired else None
    folder = work / f"windows-{_mark(parts, geometry, bounds)}"
    encoders = None
    for part in PARTS:
        every = read_rows(dataset, part)
        own = every[process.process_index :: process.num_processes]
        rows = [row for row in own if any(not goal.exists() for _, goal in _goals(row, folder / part, geometry))]
        if not rows:
            continue
        _check_size(dataset, rows[0], geometry)
        encoders = encoders or Encoders(parts, options)
        print(f"{folder / part}: encoding the windows of {len(rows)} samples", flush=True)
        samples, tell, length = _samples(dataset, rows, encoders), _Teller(encoders), geometry.length
        find = partial(_partners, length, bounds) if bounds else None
        fill_windows(samples, folder / part, encoders.encode, tell, length, find)
    process.wait_for_everyone()
    if not any((folder / PARTS[0]).glob("*.pt")):
        heard = " with sound" if parts.family.audio else ""
        raise OptionError(
            f"{dataset}: no sample{heard} to train on has {geometry.length} frames; give a smaller length"
        )
    return folder


class _Teller:
    """Says all that a network is told of a window; a sample's speech is listened to once."""

    def __init__(self, encoders: Encoders) -> None:
        self.encoders = encoders
        self.last: tuple[Sound, Heard | None] | None = None

    def __call__(self, window: Window, source: Tensor, pose: Tensor) -> Condition:
        if self.last is None or self.last[0] is not window.sound:
            self.last = window.sound, self.encoders.listen(window.sound)
        return self.encoders.condition(Given(window, source, pose), self.last[1])


def _bounds(recipe: PairedRecipe) -> Bounds:
    """Return a recipe's bounds of pseudo-pairs; a spread of the lips' opening is that of the embedded model's films."""
    spread = read_weights(embedded_weights())[0]["audio.lip_std"]
    return recipe.pair_pose, recipe.pair_lips * float(spread[0])


def _partners(length: int, bounds: Bounds, sample: Sample) -> dict[int, int]:
    return partners(sample.canvases, length, *bounds)


def _goals(row: Row, folder: Path, geometry: Geometry) -> Iterator[tuple[int, Path]]:
    return goals(row.key, row.frames, folder, geometry.length)


def _samples(dataset: Path, rows: list[Row], encoders: Encoders) -> Iterator[Sample]:
    """Yield samples at the model's size; silent ones would teach a model that hears to speak in silence."""
    for row in rows:
        sample = read_sample(dataset, row)
        if len(sample.canvases.samples) or encoders.family.audio is None:
            yield at_size(sample, encoders.geometry.canvas)


def at_size(sample: Sample, size: int) -> Sample:
    """Return a sample whose canvases have sides of `size` pixels, at most as large as they were."""
    clip = sample.canvases
    old = clip.pixels.shape[1]
    if old == size:
        return sample
    pixels = np.stack([cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA) for image in clip.pixels])
    landmarks = ((clip.landmarks + 0.5) * (size / old) - 0.5).astype(np.float32)
    return replace(sample, canvases=replace(clip, pixels=pixels, landmarks=landmarks))


def _check_size(dataset: Path, row: Row, geometry: Geometry) -> None:
    """Raise OptionError if canvases would have to be enlarged: a model would learn to paint them soft."""
    size = read_sample(dataset, row).canvases.pixels.shape[1]
    if size < geometry.canvas:
        raise OptionError(
            f"{dataset}: its canvases of {size} px are smaller than the {geometry.canvas} that the model paints: "
            f"prepare it with --canvas {geometry.canvas}, or give a smaller canvas"
        )


def _mark(parts: Parts, geometry: Geometry, bounds: Bounds | None) -> str:
    """Return a mark of all that windows depend on, so that others' are never taken for them."""
    eyes = [each for each in (parts.image_encoder, parts.text) if each]
    files = [parts.vae.path, *(folder for folder, _ in parts.encoders), *eyes]
    sizes = [sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*"))) for path in files]
    about: tuple[object, ...] = parts.family.key, geometry.canvas, geometry.length, [str(path) for path in files], sizes
    about += (bounds,) if bounds else ()
    return hashlib.sha256(repr(about).encode()).hexdigest()[:12]
