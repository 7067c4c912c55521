"""Which of a shot's own mouths lies under each painted frame: the one nearest to what the speech asks for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unisync.mouth import STILL, STRETCH, neutralised, opened
from unisync.types import Floats, Mouths, Pixels, Window

WEIGHTS = np.array([1.0, 1.0, 0.5, 0.5, 0.3, 0.2], np.float32)
"""How much each lip parameter counts, after division by its spread."""
FAR_POSE = 0.03  # canvas sides; costs as much as lips one spread away
JUMP, MOVE = 1.0, 0.3
"""What it costs to change the mouth between frames: once, and per squared distance of the lips."""


class Lender:
    """Chooses mouths for one track, by Viterbi's algorithm window by window; what was chosen for a frame stays.

    spread: (6,) of the lip parameters, canvas sides.
    """

    def __init__(self, mouths: Mouths, spread: Floats) -> None:
        self.mouths = mouths
        self._scale = WEIGHTS / spread
        lips = mouths.lips * self._scale
        self._change = MOVE * np.square(lips[:, None] - lips).sum(-1) + JUMP * (1 - np.eye(len(mouths)))
        self._still = _pose(mouths.landmarks, mouths.pixels.shape[1])
        self._chosen: dict[int, int] = {}

    def reach(self, openings: Floats) -> float:
        """Return which share of the lip openings (N,) asked for these mouths can show, in [0, 1]."""
        widest = STRETCH * float(self.mouths.lips[:, 0].max())
        wanted = np.maximum(openings, 0)
        return float(np.minimum(wanted, widest).sum() / max(float(wanted.sum()), 1e-6))

    def lent(self, window: Window, lips: Floats) -> Pixels:
        """Return the window's canvases with lent mouths, opened as asked. lips: (T, 6) canvas sides."""
        pixels = np.empty_like(window.pixels)
        for i, mouth in enumerate(self.choose(window, lips)):
            reference = opened(self.mouths[mouth], float(lips[i, 0]))
            pixels[i] = neutralised(window.pixels[i : i + 1], window.landmarks[i : i + 1], reference)[0]
        return pixels

    def choose(self, window: Window, lips: Floats) -> list[int]:
        """Return a mouth for each frame of the window."""
        frames = range(window.start, window.start + len(window))
        new = [i for i, frame in enumerate(frames) if frame not in self._chosen]
        if new:
            far = np.square((lips[new, None] - self.mouths.lips) * self._scale).sum(-1)
            still = _pose(window.landmarks[new], window.pixels.shape[1])
            away = np.linalg.norm(still[:, None] - self._still, axis=-1).mean(-1)
            before = self._chosen.get(frames[new[0]] - 1)
            path = cheapest_path(far + np.square(away / FAR_POSE), self._change, before)
            self._chosen = {frame: self._chosen[frame] for frame in frames if frame in self._chosen}
            self._chosen |= {frames[i]: mouth for i, mouth in zip(new, path, strict=True)}
        return [self._chosen[frame] for frame in frames]


def cheapest_path(cost: NDArray[np.floating], change: NDArray[np.floating], before: int | None) -> list[int]:
    """Return the states (T,) of the least sum of their costs (T, K) and of changing between them (K, K).

    before: the state that the path goes on from.
    """
    total = cost[0] + (change[before] if before is not None else 0)
    origins = []
    for own in cost[1:]:
        ways = total[:, None] + change
        origins.append(ways.argmin(0))
        total = ways.min(0) + own
    path = [int(total.argmin())]
    for origin in reversed(origins):
        path.append(int(origin[path[-1]]))
    return path[::-1]


def _pose(landmarks: Floats, size: int) -> Floats:
    return np.asarray(landmarks[:, list(STILL)] / size, np.float32)
