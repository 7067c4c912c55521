"""Log-mel spectrogram of 16 kHz speech, normalised in loudness over its voiced parts."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from unisync.types import Floats, Sound

RATE = 16000  # Hz
HOP = 160  # samples; 100 frames a second
WINDOW = 400
FFT = 512
BANDS = 80
LOW_HZ, HIGH_HZ = 55.0, 7600.0
FLOOR = 1e-7  # power
SILENCE = (np.log(FLOOR) + 6) / 5
"""Value of a normalised mel bin that hears nothing."""
SPEECH_RMS = 0.06
MAX_GAIN = 30.0
BLOCK = 1000
"""Rows worked out at a time (ten seconds): a whole film's spectrum at once would take forty times its samples' memory."""


def log_mel(sound: Sound) -> Tensor:
    """Return float32 (N, 80), 100 rows a second, row k centred at second k / 100; about [-2, 1.5].

    Raises ValueError if the sound is not at 16 kHz.
    """
    if sound.rate != RATE:
        raise ValueError(f"speech must be at {RATE} Hz, not {sound.rate}")
    samples = torch.from_numpy(sound.samples * np.float32(loudness_gain(sound.samples)))
    if len(samples) <= FFT:
        samples = torch.nn.functional.pad(samples, (0, FFT + 1 - len(samples)))
    num, half = len(samples) // HOP + 1, FFT // 2
    samples = torch.nn.functional.pad(samples[None], (half, half), mode="reflect")[0]
    mel, window = torch.empty(num, BANDS), torch.hann_window(WINDOW)
    for start in range(0, num, BLOCK):
        stop = min(start + BLOCK, num)
        part = samples[start * HOP : (stop - 1) * HOP + FFT]
        spectrum = torch.stft(part, FFT, HOP, WINDOW, window, center=False, return_complex=True).abs() ** 2
        mel[start:stop] = (((_filters() @ spectrum).clamp_min(FLOOR).log() + 6) / 5).T
    return mel


def loudness_gain(samples: Floats) -> float:
    """Return the factor that brings the loud parts of `samples` (N,) to the level the encoder was trained at.

    Sound that is silent throughout is not blown up: the factor is at most 30.
    """
    num = len(samples) // WINDOW
    if num == 0:
        return 1.0
    parts = samples[: num * WINDOW].reshape(num, WINDOW)
    energy = np.einsum("ij,ij->i", parts, parts).astype(np.float64) / WINDOW
    active = energy[energy > energy.max() * 1e-3]
    if len(active) == 0:
        return 1.0
    return float(min(SPEECH_RMS / max(np.sqrt(active.mean()), 1e-9), MAX_GAIN))


@cache
def _filters() -> Tensor:
    """Triangular mel filters, float32 (80, 257) (HTK scale)."""

    def mel(hz: float) -> float:
        return float(2595 * np.log10(1 + hz / 700))

    edges = 700 * (10 ** (np.linspace(mel(LOW_HZ), mel(HIGH_HZ), BANDS + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(FFT, 1 / RATE)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return torch.from_numpy(np.maximum(0, np.minimum(rising, falling)).astype(np.float32))
