"""Several speeches as one sound: their sum, on the film's clock, quieter as a whole where it would clip."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr

from unisync.media.sound import Samples, blocks

BLOCK_SECONDS = 1
CEILING = 1 - 2**-23
"""The loudest sample that 24 bits hold."""


def write_mix(paths: Sequence[Path], out: Path, seconds: float) -> float:
    """Write the sum of the files' sound to `out` (.flac or .wav, 24 bits); return what it was scaled by, at most 1.

    At the highest of their rates; stereo if one of them is, surround counts as mono. The shorter ones end in silence.
    seconds: where it ends at the latest.
    Raises MediaError where a file has no sound.
    """
    kinds = [next((samples.shape[0], rate) for samples, rate in blocks(path, mono=True)) for path in paths]
    channels, rate = max(kind[0] for kind in kinds), max(kind[1] for kind in kinds)
    peak = max((float(np.abs(block).max()) for block in _sums(paths, channels, rate, seconds)), default=0.0)
    gain = min(1.0, CEILING / max(peak, 1e-9))
    with soundfile.SoundFile(out, "w", rate, channels, "PCM_24") as file:
        for block in _sums(paths, channels, rate, seconds):
            file.write(np.clip(gain * block, -1, CEILING).T)
    return gain


def _sums(paths: Sequence[Path], channels: int, rate: int, seconds: float) -> Iterator[Samples]:
    """Yield float32 (channels, N) until the last of the files ends, or so many seconds are over."""
    left = math.ceil(seconds * rate)
    sources = [_even(path, channels, rate) for path in paths]
    while True:
        parts = [part for part in (next(source, None) for source in sources) if part is not None]
        if not parts or left <= 0:
            return
        total = np.zeros((channels, max(part.shape[1] for part in parts)), np.float32)
        for part in parts:
            total[:, : part.shape[1]] += part
        yield total[:, :left]
        left -= total.shape[1]


def _even(path: Path, channels: int, rate: int) -> Iterator[Samples]:
    """Yield a file's sound in blocks of BLOCK_SECONDS, the last one shorter."""
    held, num = np.zeros((channels, 0), np.float32), rate * BLOCK_SECONDS
    for samples in _resampled(path, channels, rate):
        held = np.concatenate([held, samples], axis=1)
        while held.shape[1] >= num:
            yield held[:, :num]
            held = held[:, num:]
    if held.shape[1]:
        yield held


def _resampled(path: Path, channels: int, rate: int) -> Iterator[Samples]:
    stream: soxr.ResampleStream | None = None
    for samples, own in blocks(path, mono=True):
        samples = np.repeat(samples, channels, axis=0) if samples.shape[0] < channels else samples
        if own != rate and stream is None:
            stream = soxr.ResampleStream(own, rate, channels, dtype="float32")
        yield samples if stream is None else np.atleast_2d(stream.resample_chunk(np.ascontiguousarray(samples.T)).T)
    if stream is not None:
        yield np.atleast_2d(stream.resample_chunk(np.zeros((0, channels), np.float32), last=True).T)
