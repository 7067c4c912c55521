"""How near a film comes to the truth: in structure (SSIM), sample by sample (PSNR), and in where the lips lie (LMD)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from unisync.metrics.base import NOTHING_SEEN, Better, Value, beside, ratio
from unisync.metrics.pixels import Likeness, whole_region
from unisync.types import Pixels, Window

WINDOW, SIGMA = 11, 1.5
"""Side and spread of SSIM's Gaussian window, px."""
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
LMD_SIDE = 256
"""Canvas side, px, that LMD is told in."""
OUTER_LIPS = (61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91)
INNER_LIPS = (78, 81, 13, 311, 308, 402, 14, 178)
"""Points of the mesh that stand for numbers 48 to 67 of the 68 points LMD was defined on, in their order."""


def ssim(made: Pixels, truth: Pixels) -> float:
    """Return the structural similarity of two pictures (H, W, 3), both at least 11 px high and wide.

    Wang et al. 2004, equation 13, on 8-bit BT.601 luma at its own size: 11×11 Gaussian window of σ 1.5, K1 .01, K2 .03,
    covariances of the population, mean of the map where the window lies wholly inside.
    """
    x, y = (cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float64) for pixels in (made, truth))
    mean_x, mean_y = _blur(x), _blur(y)
    spread_x, spread_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    shared = _blur(x * y) - mean_x * mean_y
    above = (2 * mean_x * mean_y + C1) * (2 * shared + C2)
    below = (mean_x**2 + mean_y**2 + C1) * (spread_x + spread_y + C2)
    return float((above / below).mean())


def _blur(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Gaussian mean around each pixel that has a whole window."""
    rim = WINDOW // 2
    blurred = cv2.GaussianBlur(plane, (WINDOW, WINDOW), SIGMA)[rim:-rim, rim:-rim]
    return np.asarray(blurred, np.float64)


class Ssim:
    """Structural similarity of the face's canvas to the truth's, mean of the frames."""

    name = "ssim"
    unit = "1: the same"
    better: Better = "higher"

    def __init__(self) -> None:
        self._sum, self._num = 0.0, 0

    def update(self, made: Window, truth: Window | None = None) -> None:
        truth = beside(made, truth, self.name)
        for new, old in zip(made.pixels, truth.pixels, strict=True):
            self._sum += ssim(new, old)
            self._num += 1

    def compute(self) -> dict[str, Value]:
        return {self.name: ratio(self._sum, self._num, NOTHING_SEEN)}


class Psnr(Likeness):
    """Peak signal-to-noise ratio of the face's whole canvas, of the mean squared error of all frames and colours.

    Papers give the mean of the frames' own ratios, which is as high or higher, and has no value for a frame without error.
    """

    name = "psnr"
    unit = "dB"
    better: Better = "higher"
    region = staticmethod(whole_region)


class MeshLmd:
    """Mean distance of 20 points of the lips from the truth's, both on the truth's canvas, scaled to 256 px a side.

    The points are mediapipe's mesh, where papers take the 68 points of other detectors and crops of their own: hold it
    against figures of this metric only. Nothing is taken out, neither place nor size.
    """

    name = "lmd_mesh"
    unit = "px of a canvas of 256"
    better: Better = "lower"

    def __init__(self) -> None:
        self._sum, self._num = 0.0, 0

    def update(self, made: Window, truth: Window | None = None) -> None:
        truth = beside(made, truth, self.name)
        lips = [*OUTER_LIPS, *INNER_LIPS]
        gaps = np.linalg.norm(made.landmarks[:, lips] - truth.landmarks[:, lips], axis=-1)
        self._sum += float(gaps.sum()) * LMD_SIDE / made.pixels.shape[1]
        self._num += gaps.size

    def compute(self) -> dict[str, Value]:
        return {self.name: ratio(self._sum, self._num, NOTHING_SEEN)}
