"""Mel cepstra as SyncNet's published evaluation takes them: python_speech_features 0.6 with its defaults, at 16 kHz."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct

from unisync.types import Floats

RATE = 16000  # Hz
HOP = 160  # samples; 100 rows a second
WINDOW = 400
FFT = 512
FILTERS = 26
CEPSTRA = 13
PRE_EMPHASIS = 0.97
LIFTER = 22
BLOCK = 4000
"""Rows worked out at a time (40 seconds)."""


def cepstra(samples: Floats, num: int, before: float = 0.0) -> Floats:
    """Return num rows, float32 (num, 13), of samples in [-1, 1]; row k begins at sample 160 k, and the first is the energy.

    before: the sample before the first. Where samples end, silence follows.
    """
    whole = np.clip(np.round(np.append(before, samples).astype(np.float64) * 32768), -32768, 32767)
    whole = np.pad(whole, (0, max(0, (num - 1) * HOP + WINDOW + 1 - len(whole))))
    sharp = whole[1:] - PRE_EMPHASIS * whole[:-1]
    sharp[len(samples) :] = 0
    rows = np.empty((num, CEPSTRA), np.float32)
    for start in range(0, num, BLOCK):
        stop = min(start + BLOCK, num)
        part = sharp[start * HOP : (stop - 1) * HOP + WINDOW]
        frames = np.lib.stride_tricks.sliding_window_view(part, WINDOW)[::HOP]
        power = np.abs(np.fft.rfft(frames, FFT)) ** 2 / FFT
        bands, energy = (np.where(x == 0, np.finfo(float).eps, x) for x in (power @ _filters().T, power.sum(1)))
        made = dct(np.log(bands), type=2, axis=1, norm="ortho")[:, :CEPSTRA]
        made *= 1 + LIFTER / 2 * np.sin(np.pi * np.arange(CEPSTRA) / LIFTER)
        made[:, 0] = np.log(energy)
        rows[start:stop] = made
    return rows


@cache
def _filters() -> NDArray[np.float64]:
    """Triangular filters (26, 257) whose corners lie on whole bins of the spectrum (HTK scale, 0 to 8 kHz)."""
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    corners = np.floor((FFT + 1) * 700 * (10 ** (np.linspace(0, top, FILTERS + 2) / 2595) - 1) / RATE)
    low, peak, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    bins = np.arange(FFT // 2 + 1)
    rising = np.where((bins >= low) & (bins < peak), (bins - low) / (peak - low), 0)
    falling = np.where((bins >= peak) & (bins < high), (high - bins) / (high - peak), 0)
    return np.asarray(rising + falling)
