"""Near-duplicates: the same seconds of the same film again, re-encoded, cropped or cut at another moment."""

from __future__ import annotations

import cv2
import numpy as np

from unisync.training.dataset import Canvases
from unisync.types import Floats

RATE = 12.5  # rows a second
SIDE = 6  # of the pictures of the face
BANDS = 12
OVERLAP = 0.6
"""Share of the shorter sample that must be covered."""
NEAR = 0.35
"""Looks further apart than this are not compared: the same seconds look the same."""
SHORTEST = 10  # rows
SOUND_RATE = 16000


def fingerprint(canvases: Canvases) -> Floats:
    """Return float32 (N, 49), 12.5 rows a second: how the face's picture and the sound's bands move around their means.

    The last column says whether there is sound.
    """
    rows = max(1, int(canvases.seconds[-1] * RATE) + 1)
    moments = np.arange(rows) / RATE
    small = np.stack([_small(image) for image in canvases.pixels])
    pictures = np.stack([np.interp(moments, canvases.seconds, column) for column in small.T], axis=1)
    heard = len(canvases.samples) > 0 and bool(canvases.samples.any())
    bands = _bands(canvases, rows) if heard else np.zeros((rows, BANDS))
    return np.concatenate([pictures, bands, np.full((rows, 1), heard)], axis=1).astype(np.float32)


def likeness(a: Floats, b: Floats) -> float:
    """Return how much two fingerprints agree at the best shift, in [-1, 1]: the lesser of face's and sound's correlation."""
    if a[0, -1] != b[0, -1]:
        return -1.0
    least = max(SHORTEST, round(OVERLAP * min(len(a), len(b))))
    agree = _correlations(a[:, : -BANDS - 1], b[:, : -BANDS - 1], least)
    if a[0, -1]:
        agree = np.minimum(agree, _correlations(a[:, -BANDS - 1 : -1], b[:, -BANDS - 1 : -1], least))
    return float(agree.max(initial=-1.0))


def doubles(prints: list[Floats], looks: Floats, bound: float, near: float = NEAR) -> list[int | None]:
    """Return for each sample the earlier one it repeats, or None. Only faces with near looks (N, 65) are compared."""
    twins: list[int | None] = []
    for i, own in enumerate(prints):
        away = np.linalg.norm(looks[:i] - looks[i], axis=1)
        rivals = (j for j in np.flatnonzero(away < near) if twins[j] is None)
        twins.append(next((int(j) for j in rivals if likeness(prints[j], own) > bound), None))
    return twins


def _small(image: np.ndarray) -> Floats:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return np.asarray(cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.float32).ravel()


def _bands(canvases: Canvases, rows: int) -> Floats:
    """Return the logarithms of the power in 12 bands of 200 to 5,000 Hz, (rows, 12)."""
    width = round(SOUND_RATE / RATE)
    samples = np.zeros(rows * width, np.float32)
    known = canvases.samples[: len(samples)]
    samples[: len(known)] = known
    power = np.square(np.abs(np.fft.rfft(samples.reshape(rows, width) * np.hanning(width), axis=1)))
    edges = np.searchsorted(np.fft.rfftfreq(width, 1 / SOUND_RATE), np.geomspace(200, 5000, BANDS + 1))
    return np.log(np.add.reduceat(power, edges[:-1], axis=1) + 1e4).astype(np.float32)


def _correlations(a: Floats, b: Floats, least: int) -> Floats:
    """Return the correlation of two tables (N, C), (M, C), columns centred, at every shift that lays `least` rows together."""
    a, b = a - a.mean(0), b - b.mean(0)
    num = len(a) + len(b)
    product = np.fft.irfft((np.fft.rfft(a, num, axis=0) * np.fft.rfft(b, num, axis=0).conj()).sum(1), num)
    sums = [np.concatenate([[0.0], np.cumsum(np.square(table).sum(1))]) for table in (a, b)]
    shifts = np.arange(least - len(b), len(a) - least + 1)
    first, last = np.maximum(0, shifts), np.minimum(len(a), shifts + len(b))
    power = (sums[0][last] - sums[0][first]) * (sums[1][last - shifts] - sums[1][first - shifts])
    return np.asarray(product[shifts] / np.sqrt(np.maximum(power, 1e-6)), np.float32)
