"""Windows whose lips, pixels and faces are planted, so that every figure is known beforehand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unisync.types import NUM_LANDMARKS, Floats, Pixels, Sound, Window

SIZE = 96
LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
JAW = (58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288)
OUTLINE = (323, 454, 356, 389, 251, 284, 332, 297, 338, 10, 109, 67, 103, 54, 21, 162, 127, 234, 93, 132)


def face(opening: float = 0.05, size: int = SIZE) -> Floats:
    """Return landmarks (468, 2) of an upright face on a canvas, its lips open by that share of the side."""
    rng = np.random.default_rng(5)
    points = np.stack([rng.uniform(0.2, 0.8, NUM_LANDMARKS), rng.uniform(0.05, 0.35, NUM_LANDMARKS)], 1)
    places = {
        33: (0.22, 0.12), 133: (0.38, 0.12), 362: (0.62, 0.12), 263: (0.78, 0.12), 2: (0.5, 0.40),
        98: (0.43, 0.39), 327: (0.57, 0.39), 427: (0.8, 0.5), 426: (0.68, 0.45), 206: (0.32, 0.45), 207: (0.2, 0.5),
        13: (0.5, 0.6 - opening / 2), 14: (0.5, 0.6 + opening / 2), 361: (0.92, 0.45),
    }  # fmt: skip
    for i, name in enumerate(OUTLINE):
        angle = np.pi * i / (len(OUTLINE) - 1)
        places[name] = (0.5 + 0.42 * np.cos(angle), 0.3 - 0.28 * np.sin(angle))
    for i, name in enumerate(JAW):
        angle = np.pi * i / (len(JAW) - 1)
        places[name] = (0.5 - 0.38 * np.cos(angle), 0.5 + 0.35 * np.sin(angle))
    for i, name in enumerate(LIPS):
        angle = 2 * np.pi * i / len(LIPS)
        places[name] = (0.5 - 0.15 * np.cos(angle), 0.6 - 0.07 * np.sin(angle))
    for name, place in places.items():
        points[name] = place
    return (points * size - 0.5).astype(np.float32)


def lips_at(openings: Sequence[float] | Floats, rate: float = 25.0, begin: float = 0.0, size: int = SIZE) -> Window:
    """Return a window whose lips are open as told, its pixels grey."""
    pixels = np.full((len(openings), size, size, 3), 128, np.uint8)
    return window(pixels, np.stack([face(float(o), size) for o in openings]), rate, begin)


def window(pixels: Pixels, landmarks: Floats | None = None, rate: float = 25.0, begin: float = 0.0) -> Window:
    """Return a window of those canvases, of a face that keeps still unless told otherwise."""
    num, size = pixels.shape[:2]
    if landmarks is None:
        landmarks = np.stack([face(size=size)] * num)
    return Window(0, pixels, begin + np.arange(num) / rate, landmarks, Sound(np.zeros(16000, np.float32), 16000))


def noise(num: int, spread: float, seed: int = 0, size: int = SIZE) -> Pixels:
    """Return grey canvases with white noise about 128, the same in all three colours."""
    values = np.random.default_rng(seed).normal(128, spread, (num, size, size, 1))
    return np.repeat(np.clip(np.round(values), 0, 255), 3, axis=3).astype(np.uint8)
