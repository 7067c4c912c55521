"""Landmarks of a drawn face whose mouth opens by known amounts."""

from __future__ import annotations

import numpy as np

from unisync.types import NUM_LANDMARKS, Floats

SIZE = 64


def face(opening: float = 0.0, shift: float = 0.0) -> Floats:
    """Return landmarks (468, 2) on a canvas of 64 px with the points that matter in their places."""
    points = np.full((NUM_LANDMARKS, 2), (0.5, 0.3), np.float32)
    places = {
        33: (0.22, 0.12), 133: (0.38, 0.12), 362: (0.62, 0.12), 263: (0.78, 0.12), 168: (0.5, 0.13), 6: (0.5, 0.17),
        197: (0.5, 0.22), 195: (0.5, 0.26), 5: (0.5, 0.3), 4: (0.5, 0.33), 1: (0.5, 0.35), 2: (0.5, 0.40),
        98: (0.43, 0.39), 327: (0.57, 0.39), 234: (0.08, 0.2), 454: (0.92, 0.2), 93: (0.09, 0.35), 323: (0.91, 0.35),
        13: (0.5, 0.56 - opening / 2), 14: (0.5, 0.56 + opening / 2), 82: (0.46, 0.56 - opening / 2),
        87: (0.46, 0.56 + opening / 2), 312: (0.54, 0.56 - opening / 2), 317: (0.54, 0.56 + opening / 2),
        78: (0.39, 0.56), 308: (0.61, 0.56), 427: (0.8, 0.5), 426: (0.68, 0.45), 206: (0.32, 0.45), 207: (0.2, 0.5),
    }  # fmt: skip
    jaw = (58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288)
    for i, name in enumerate(jaw):
        angle = np.pi * i / (len(jaw) - 1)
        places[name] = (0.5 - 0.38 * np.cos(angle), 0.5 + (0.35 + opening / 2) * np.sin(angle))
    lips = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
    for i, name in enumerate(lips):
        angle = 2 * np.pi * i / len(lips)
        places[name] = (0.5 - 0.15 * np.cos(angle), 0.56 - (0.05 + opening / 2) * np.sin(angle))
    outline = (10, 338, 297, 332, 284, 251, 389, 356, 361, 132, 127, 162, 21, 54, 103, 67, 109)
    for i, name in enumerate(outline):
        angle = np.pi * (0.1 + 0.8 * i / len(outline))
        places[name] = (0.5 + 0.42 * np.cos(angle), 0.2 - 0.3 * np.sin(angle))
    for name, (x, y) in places.items():
        points[name] = ((x + shift) * SIZE - 0.5, y * SIZE - 0.5)
    return points
