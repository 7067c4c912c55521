"""Voice activity by silero-vad, whose weights ship in its wheel."""

from __future__ import annotations

import numpy as np

from unisync.audio.mel import RATE
from unisync.types import Floats, Sound

CHUNK = 512  # samples; what silero-vad takes at 16 kHz
THRESHOLD = 0.4
HOLD_SECONDS = 0.25
"""Lips open before the voice and close after it, so speech is widened by this on both sides."""


def voice_activity(sound: Sound) -> Floats:
    """Return float32 (N,), 100 values a second: 1 where somebody speaks (or is about to, or just did), else 0.

    Raises ValueError if the sound is not at 16 kHz.
    """
    if sound.rate != RATE:
        raise ValueError(f"speech must be at {RATE} Hz, not {sound.rate}")
    num = int(np.ceil(sound.seconds * 100)) + 1
    chances = _chances(np.pad(sound.samples, (0, -len(sound.samples) % CHUNK)))
    moments = np.arange(num) / 100
    index = np.minimum((moments * RATE / CHUNK).astype(int), max(len(chances) - 1, 0))
    speaking = chances[index] > THRESHOLD if len(chances) else np.zeros(num, bool)
    reach = round(HOLD_SECONDS * 100)
    spread = np.convolve(speaking, np.ones(2 * reach + 1), mode="same") > 0
    return spread.astype(np.float32)


def _chances(samples: Floats) -> Floats:
    """Return how likely each chunk of samples (512 N,) is voice, (N,). Its steps are too small to be split over cores."""
    import torch

    threads = torch.get_num_threads()
    try:
        from silero_vad import load_silero_vad  # the import alone leaves the whole process's torch one thread

        torch.set_num_threads(1)
        model = load_silero_vad()
        with torch.no_grad():
            return np.array([float(model(chunk, RATE)) for chunk in torch.from_numpy(samples).split(CHUNK)])
    finally:
        torch.set_num_threads(threads)
