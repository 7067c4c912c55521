"""Who is speaking: lips that open and close. A sign, not a proof; chewing and laughing look the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from unisync.types import Floats

WINDOW_SECONDS = 0.5
QUIET, TALKING = 0.004, 0.020  # spread of the opening over the eye distance: closed lips, lively speech


def lip_opening(landmarks: Floats) -> Floats:
    """Return float32 (T,), the gap between the inner lips over the distance of the outer eye corners.

    landmarks: (T, 468, 2) px. A head turned aside is measured by its height instead, so that the gap does not grow.
    """
    gap = np.linalg.norm(landmarks[:, 13] - landmarks[:, 14], axis=1)
    eyes = np.linalg.norm(landmarks[:, 33] - landmarks[:, 263], axis=1)
    nose = np.linalg.norm(landmarks[:, 168] - landmarks[:, 2], axis=1)  # as long as .55 of the eyes' distance
    return np.asarray(gap / np.maximum(np.maximum(eyes, 1.6 * nose), 1e-3), np.float32)


def speaking(landmarks: Floats, seconds: NDArray[np.float64]) -> Floats:
    """Return float32 (T,) in [0, 1], how much the lips move around each moment.

    landmarks: (T, 468, 2) px of one track.  seconds: float64 (T,), the frames' moments.
    """
    opening = lip_opening(landmarks).astype(np.float64)
    if len(opening) < 3:
        return np.zeros(len(opening), np.float32)
    step = max(float(np.median(np.diff(seconds))), 1e-3)
    sigma = WINDOW_SECONDS / 2 / step
    mean = gaussian_filter1d(opening, sigma, mode="nearest")
    spread = np.sqrt(gaussian_filter1d((opening - mean) ** 2, sigma, mode="nearest"))
    return np.asarray(np.clip((spread - QUIET) / (TALKING - QUIET), 0, 1), np.float32)
