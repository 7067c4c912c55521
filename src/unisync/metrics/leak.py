"""What is left of the old speech: lips that were driven by silence, and open all the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unisync.metrics.base import NOTHING_SEEN, Better, Value, beside, ratio
from unisync.types import Floats, Window

OPEN = 0.10
"""A mouth is open from this height of the gap between the lips on, as a share of the width between its corners."""
UPPER, LOWER, RIGHT, LEFT = 13, 14, 78, 308
"""Middle of the upper and lower lip's inner edge, and the inner corners, in the mesh."""


def aspect(landmarks: Floats) -> NDArray[np.float64]:
    """Return height over width of the gap between the lips, float64 (T,), for landmarks (T, 468, 2)."""
    points = landmarks.astype(np.float64)
    height = np.linalg.norm(points[:, UPPER] - points[:, LOWER], axis=-1)
    width = np.linalg.norm(points[:, LEFT] - points[:, RIGHT], axis=-1)
    return np.asarray(height / np.maximum(width, 1e-6))


class LipLeak:
    """Share of the frames whose mouth is open, in a film of somebody who talks, dubbed with silence.

    The source's own share stands beside it: a source that keeps its mouth shut has nothing to leak.
    """

    name = "lip_leak"
    unit = f"of the frames open by {OPEN} of the mouth's width"
    better: Better = "lower"

    def __init__(self) -> None:
        self._made = self._truth = self._num = 0

    def update(self, made: Window, truth: Window | None = None) -> None:
        truth = beside(made, truth, self.name)
        self._made += int((aspect(made.landmarks) > OPEN).sum())
        self._truth += int((aspect(truth.landmarks) > OPEN).sum())
        self._num += len(made)

    def compute(self) -> dict[str, Value]:
        return {
            self.name: ratio(self._made, self._num, NOTHING_SEEN),
            "lip_leak_source": ratio(self._truth, self._num, NOTHING_SEEN),
        }
