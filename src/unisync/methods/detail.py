"""Fine texture for painted lips: a network that guesses the likeliest leaves them softer than the film."""

from __future__ import annotations

import cv2
import numpy as np

from unisync.mask import lips_mask, mouth_mask
from unisync.types import Floats, Pixels

SIGMA, REACH = 1.0, 4  # canvas px: finer than SIGMA is texture, and no pixel farther than REACH counts for it
LIMIT = 1.0
"""How much texture is added at most, as a share of what is there: more would sharpen the noise of what was painted."""


class LipsDetail:
    """Gives one track's lips the texture that painting took from the skin around them, where the film shows the truth.

    Measured over all canvases so far; the film's own lips are not looked at, so nothing of them comes through.
    """

    def __init__(self, amount: float) -> None:
        self.amount = amount
        self._own = self._painted = 0.0

    def __call__(self, painted: Pixels, source: Pixels, landmarks: Floats) -> Pixels:
        """Return painted canvases uint8 (T, S, S, 3), their lips sharpened. source: what the film shows there."""
        size = painted.shape[1]
        fine = [_fine(picture) for picture in painted]
        lips = [lips_mask(points, size) for points in landmarks]
        for texture, picture, points, inside in zip(fine, source, landmarks, lips, strict=True):
            near = cv2.dilate(inside, np.ones((2 * REACH + 1, 2 * REACH + 1), np.uint8))
            around = (mouth_mask(points, size) * (near == 0))[..., None]
            self._painted += _energy(texture, around)
            self._own += _energy(_fine(picture), around)
        missing = np.sqrt(self._own / max(self._painted, 1e-6)) - 1
        gain = self.amount * float(np.clip(missing, 0, LIMIT))
        sharp = [p + gain * mask[..., None] * texture for p, mask, texture in zip(painted, lips, fine, strict=True)]
        return np.clip(np.round(np.stack(sharp)), 0, 255).astype(np.uint8)


def _fine(picture: Pixels) -> Floats:
    side, whole = 2 * REACH + 1, picture.astype(np.float32)
    return np.asarray(whole - cv2.GaussianBlur(whole, (side, side), SIGMA), np.float32)


def _energy(texture: Floats, mask: Floats) -> float:
    return float((np.square(texture) * mask).sum())
