"""Voice activity by silero-vad, whose weights ship in its wheel."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

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
    import torch

    if sound.rate != RATE:
        raise ValueError(f"speech must be at {RATE} Hz, not {sound.rate}")
    num = int(np.ceil(sound.seconds * 100)) + 1
    model = _load()()
    samples = torch.from_numpy(np.pad(sound.samples, (0, -len(sound.samples) % CHUNK)))
    with torch.no_grad():
        chances = np.array([float(model(chunk, RATE)) for chunk in samples.split(CHUNK)])
    moments = np.arange(num) / 100
    index = np.minimum((moments * RATE / CHUNK).astype(int), max(len(chances) - 1, 0))
    speaking = chances[index] > THRESHOLD if len(chances) else np.zeros(num, bool)
    reach = round(HOLD_SECONDS * 100)
    spread = np.convolve(speaking, np.ones(2 * reach + 1), mode="same") > 0
    return spread.astype(np.float32)


@cache
def _load() -> Callable[[], Any]:
    """Import what loads the model. As it is imported it would leave the whole process's torch one thread."""
    import torch

    threads = torch.get_num_threads()
    from silero_vad import load_silero_vad

    torch.set_num_threads(threads)
    return load_silero_vad
