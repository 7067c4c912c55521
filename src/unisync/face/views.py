"""How published networks are shown a face: where each one's canvas lies on the frame. Metrics name these views.

The canvas that methods paint on shows the lower face; these show what the networks were trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.signal import medfilt

from unisync.face.align import similarity
from unisync.types import Floats, Pixels

Matrices = NDArray[np.float64]
ARCFACE = np.array([(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)])
"""Where ArcFace wants right eye, left eye, nose tip and the mouth's corners on 112 x 112."""
SYNCNET_MARGIN = 0.4
"""How much wider than the face SyncNet's crop is, on either side, and twice that below it."""
SYNCNET_SMOOTHING = 13
"""Frames over which its place and size are the median."""


@dataclass(frozen=True)
class View:
    """border: grey that stands outside the frame.

    matrices: of landmarks (T, 468, 2) px, the frame's width and height, and the canvas's side, float64 (T, 2, 3), frame
    px -> canvas px.  whole: it is the frame that is shown, not a face.
    """

    border: int
    matrices: Callable[[Floats, tuple[int, int], int], Matrices]
    whole: bool = False

    def show(self, pixels: Pixels, matrix: Matrices, size: int) -> Pixels:
        """Return the canvas uint8 (size, size, 3) of a frame (H, W, 3), by two-way interpolation as published."""
        canvas = cv2.warpAffine(
            pixels, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(self.border,) * 3
        )  # fmt: skip
        return np.asarray(canvas, np.uint8)


def arcface_matrices(landmarks: Floats, frame: tuple[int, int], size: int) -> Matrices:
    """Return how eyes, nose and mouth come to lie where ArcFace wants them, frame by frame."""
    eyes = landmarks[:, [33, 133]].mean(1), landmarks[:, [362, 263]].mean(1)
    points = np.stack([*eyes, landmarks[:, 1], landmarks[:, 61], landmarks[:, 291]], 1).astype(np.float64)
    return np.stack([similarity(five, ARCFACE * (size / 112)) for five in points]).astype(np.float64)


def syncnet_matrices(landmarks: Floats, frame: tuple[int, int], size: int) -> Matrices:
    """Return the crops of syncnet_python's pipeline; the mesh's extent stands for the box of its detector."""
    low, high = landmarks.min(1).astype(np.float64), landmarks.max(1).astype(np.float64)
    track = np.column_stack([(low + high) / 2, (high - low).max(1) / 2])  # centre and half a side
    if len(track) >= SYNCNET_SMOOTHING:
        track = np.column_stack([medfilt(values, SYNCNET_SMOOTHING) for values in track.T])
    x, y, half = track.T
    pad = np.floor(half * (1 + 2 * SYNCNET_MARGIN))  # the published crop is cut from a padded frame, at whole pixels
    wide = half * (1 + SYNCNET_MARGIN)
    left, right = np.floor(x + pad - wide) - pad, np.floor(x + pad + wide) - pad
    top, bottom = np.floor(y + pad - half) - pad, np.floor(y + pad + half * (1 + 2 * SYNCNET_MARGIN)) - pad
    return _stretched(left, top, right - left, bottom - top, size)


def frame_matrices(landmarks: Floats, frame: tuple[int, int], size: int) -> Matrices:
    """Return how the whole frame is squeezed into a square."""
    zeros = np.zeros(len(landmarks))
    return _stretched(zeros, zeros, zeros + frame[0], zeros + frame[1], size)


def _stretched(left: Matrices, top: Matrices, width: Matrices, height: Matrices, size: int) -> Matrices:
    """Return the matrices (T, 2, 3) that stretch rectangles (T,) each over a square canvas."""
    across, down, none = size / width, size / height, np.zeros(len(left))
    rows = [
        np.stack([across, none, (0.5 - left) * across - 0.5], 1),
        np.stack([none, down, (0.5 - top) * down - 0.5], 1),
    ]
    return np.stack(rows, 1)


VIEWS = {
    "arcface": View(0, arcface_matrices),
    "syncnet": View(110, syncnet_matrices),
    "frame": View(0, frame_matrices, whole=True),
}
