"""Sync by our own expert: how far lips and sound are apart, and how well they belong together. Never to be called LSE."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unisync.audio.mel import log_mel
from unisync.errors import UnisyncError, WeightsError
from unisync.metrics.base import Better, Value
from unisync.nets.expert import RATE, ROWS_PER_FRAME, Expert, ExpertConfig, mouths_of
from unisync.nets.weights import fill, read_weights
from unisync.types import Pixels, Sound, Window

KIND = "unisync-expert"
REACH = 15
"""Frames of 25 fps that the sound is shifted by, either way."""
STRETCH = 100
"""Windows seen at a time."""
MIN_PAIRS = 5
"""Windows that every shift must have, so that a mean is one."""


@dataclass(frozen=True)
class Sync:
    """offset: frames of 25 fps by which the sound is late (negative: early); move it earlier by this to mend it.

    distance: mean distance, 1 - cosine, at that offset.  confidence: median over all offsets minus `distance`.
    """

    offset: int
    distance: float
    confidence: float


def at_times(pixels: Pixels, seconds: NDArray[np.float64], moments: NDArray[np.float64]) -> Pixels:
    """Return canvases uint8 (N, S, S, 3) at other moments (N,): between two frames, their mixture."""
    place = np.interp(moments, seconds, np.arange(len(seconds), dtype=np.float64))
    low = np.minimum(np.floor(place).astype(int), max(len(pixels) - 2, 0))
    share = (place - low).astype(np.float32)
    result: Pixels = pixels[low]
    for i in np.flatnonzero(share > 0.02):
        mixed = pixels[low[i]] * (1 - share[i]) + pixels[low[i] + 1] * share[i]
        result[i] = np.round(mixed)
    return result


def expert_weights() -> Path:
    """Return where the shipped weights lie."""
    return Path(str(files("unisync") / "weights" / "expert.safetensors"))


@cache
def load_expert(path: Path | None = None) -> Expert:
    """Return the expert of a weights file, or the shipped one: frozen, in evaluation mode. Raises WeightsError."""
    path = path or expert_weights()
    tensors, spec = read_weights(path)
    if spec.get("kind") != KIND:
        raise WeightsError(f"{path}: weights of kind {spec.get('kind')!r}; the sync expert needs {KIND!r}")
    config: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in spec["config"].items()
    }
    expert = Expert(ExpertConfig(**config))
    fill(expert, tensors, "expert", path)
    return expert.eval().requires_grad_(False)


def measure_sync(pixels: Pixels, seconds: NDArray[np.float64], sound: Sound, expert: Expert | None = None) -> Sync:
    """Return how far lips and sound are apart, for canvases (T, S, S, 3) at times seconds (T,) of the sound's own clock.

    Raises UnisyncError if there is too little of both to shift one against the other by 15 frames either way.
    """
    expert = expert or load_expert()
    return summary(distances(expert, pixels, seconds, log_mel(sound)))


@torch.no_grad()
def distances(expert: Expert, pixels: Pixels, seconds: NDArray[np.float64], mel: Tensor) -> NDArray[np.float32]:
    """Return 1 - cosine, (31, N), of N windows of lips and the sound shifted by -15 to 15 frames; nan: no sound there.

    mel: the whole sound's, from second 0 on.
    """
    moments = np.arange(seconds[0], seconds[-1] + 1e-6, 1 / RATE)
    table = np.full((2 * REACH + 1, max(0, len(moments) - expert.config.frames + 1)), np.nan, np.float32)
    # Frame i of the lips stands beside mel row first + 4 i; of the sound there may be more on both sides, or less.
    first = round(float(seconds[0]) * 100)
    low = max(-REACH, -(first // ROWS_PER_FRAME))
    high = min(len(moments) + REACH, (len(mel) - first) // ROWS_PER_FRAME)
    if not table.shape[1] or high - low < expert.config.frames:
        return table
    heard = expert.hear(mel[None, first + ROWS_PER_FRAME * low : first + ROWS_PER_FRAME * high])[0]
    seen = see_all(expert, pixels, seconds, moments)
    for row, shift in enumerate(range(-REACH, REACH + 1)):
        start, stop = max(0, low - shift), min(len(seen), low + len(heard) - shift)
        if start < stop:
            matching = heard[start + shift - low : stop + shift - low]
            table[row, start:stop] = 1 - (seen[start:stop] * matching).sum(-1).numpy()
    return table


def see_all(expert: Expert, pixels: Pixels, seconds: NDArray[np.float64], moments: NDArray[np.float64]) -> Tensor:
    """Return the embeddings (N, D) of the windows of canvases at 25 fps, a stretch at a time."""
    over = expert.config.frames - 1
    parts = []
    for start in range(0, len(moments) - over, STRETCH):
        stretch = at_times(pixels, seconds, moments[start : start + STRETCH + over])
        canvases = torch.from_numpy(stretch).permute(0, 3, 1, 2).float() / 255
        parts.append(expert.see(mouths_of(canvases, expert.config)[None])[0])
    return torch.cat(parts)


def summary(table: NDArray[np.float32]) -> Sync:
    """Return the offset of the least mean distance of a table (31, N) of `distances`. Raises UnisyncError if it is empty."""
    num = np.isfinite(table).sum(1)
    if num.min() < MIN_PAIRS:
        raise UnisyncError(
            f"lips and sound have only {num.min()} windows in common when shifted by {REACH} frames; {MIN_PAIRS} are "
            "needed: take a clip of a second or more that has sound throughout."
        )
    return summary_of(np.nanmean(table, axis=1))


def summary_of(mean: NDArray[np.floating[Any]]) -> Sync:
    """Return what mean distances (31,), by offset, say."""
    best = int(mean.argmin())
    return Sync(best - REACH, float(mean[best]), float(np.median(mean) - mean[best]))


class ExpertSync:
    """Sync of a film by our own expert: confidence, distance and offset of the mean over all its windows of lips."""

    name = "expert_confidence"
    unit = "cosine"
    better: Better = "higher"

    def __init__(self, expert: Expert | None = None) -> None:
        self._expert = expert or load_expert()
        self._heard: tuple[Sound, Tensor] | None = None
        self._sum = np.zeros(2 * REACH + 1)
        self._num = np.zeros(2 * REACH + 1, int)

    def update(self, made: Window, truth: Window | None = None) -> None:
        """Take a stretch; fewer than five frames say nothing. A truth is not looked at: it gets figures of its own."""
        if self._heard is None or self._heard[0] is not made.sound:
            self._heard = made.sound, log_mel(made.sound)
        table = distances(self._expert, made.pixels, made.seconds, self._heard[1])
        self._sum += np.nansum(table, axis=1)
        self._num += np.isfinite(table).sum(1)

    def compute(self) -> dict[str, Value]:
        if self._num.min() < MIN_PAIRS:
            return {self.name: f"{self._num.min()} windows of {MIN_PAIRS} with sound"}
        sync = summary_of(self._sum / self._num)
        return {self.name: sync.confidence, "expert_distance": sync.distance, "expert_offset": float(sync.offset)}
