"""How the canvas lies on a face: a similarity transform by three points that speech does not move, smoothed in time."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from unisync.types import Area, Floats, Frame, Pixels

CHEEK_OVER_NOSE = 0.773
"""In the canonical face mesh, half the width between the cheeks over how far the nose's tip stands before them."""
ANCHORS = np.array([(0.30, 0.12), (0.70, 0.12), (0.50, 0.40)])
"""Right eye, left eye, nose base in the canvas, as shares of its side."""
SMOOTH_SECONDS = 0.08


def canvas_matrices(landmarks: Floats, size: int, seconds: Sequence[float]) -> Floats:
    """Return float32 (T, 2, 3), frame px -> canvas px, for landmarks (T, 468, 2) px of one track.

    seconds: the moments of the frames; they set how many neighbours the smoothing spans.
    """
    anchors = np.stack(
        [landmarks[:, [33, 133]].mean(1), landmarks[:, [362, 263]].mean(1), landmarks[:, 2]], axis=1
    ).astype(np.float64)
    if len(anchors) > 1:
        step = max(float(np.median(np.diff(np.asarray(seconds, np.float64)))), 1e-3)
        anchors = gaussian_filter1d(anchors, SMOOTH_SECONDS / step, axis=0, mode="nearest")
    goal = ANCHORS * size - 0.5
    return np.stack([similarity(points, goal) for points in anchors])


def similarity(source: NDArray[np.float64], goal: NDArray[np.float64]) -> Floats:
    """Return the least-squares rotation, scale and shift float32 (2, 3) that takes points (N, 2) to points (N, 2)."""
    centre, aim = source.mean(0), goal.mean(0)
    a, b = source - centre, goal - aim
    norm = max(float((a * a).sum()), 1e-9)
    cos = float((a * b).sum()) / norm
    sin = float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()) / norm
    turn = np.array([[cos, -sin], [sin, cos]])
    return np.asarray(np.hstack([turn, (aim - turn @ centre)[:, None]]), np.float32)


def transform(points: Floats, matrix: Floats) -> Floats:
    """Return points (..., 2) moved by a (2, 3) matrix."""
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2], np.float32)


def crop(pixels: Pixels, matrix: Floats | NDArray[np.float64], size: int, how: int = cv2.INTER_LINEAR) -> Pixels:
    """Return the canvas uint8 (size, size, 3); what lies outside the picture mirrors what is inside.

    A face larger than the canvas is shrunk by area first, so that fine patterns do not alias.  how: OpenCV's
    interpolation; a linear one takes up to two thirds of what is fine, by where pixels come to lie.
    """
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    matrix = matrix.astype(np.float64)
    if scale < 0.75:
        left, top, right, bottom = canvas_area(matrix, size, (pixels.shape[1], pixels.shape[0]))
        goal = np.maximum(np.round(np.array((right - left, bottom - top)) * scale * 1.2).astype(int), 2)
        small = cv2.resize(pixels[top:bottom, left:right], goal.tolist(), interpolation=cv2.INTER_AREA)
        pixels = np.asarray(small, np.uint8)
        ratio = goal / (right - left, bottom - top)  # shrunk = (full - (left, top) + .5) * ratio - .5
        shift = matrix[:, 2] + matrix[:, :2] @ (np.array((left, top)) - 0.5 + 0.5 / ratio)
        matrix = np.hstack([matrix[:, :2] / ratio, shift[:, None]])
    canvas = cv2.warpAffine(pixels, matrix, (size, size), flags=how, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(canvas, np.uint8)


def crop_frame(frame: Frame, matrix: Floats | NDArray[np.float64], size: int, how: int = cv2.INTER_LINEAR) -> Pixels:
    """Return `crop` of a frame, of which only what the canvas covers is turned into RGB."""
    area = canvas_area(matrix, size, frame.picture.size)
    return crop(frame.part(area), shifted(matrix, area), size, how)


def shifted(matrix: Floats | NDArray[np.float64], area: Area) -> NDArray[np.float64]:
    """Return the matrix (2, 3) that takes an area's own px to canvas px."""
    moved = matrix.astype(np.float64)
    moved[:, 2] += moved[:, :2] @ area[:2]
    return moved


def canvas_area(matrix: Floats | NDArray[np.float64], size: int, frame: tuple[int, int]) -> Area:
    """Return what a canvas shows of a frame (width, height), and as much inside it as the canvas mirrors beyond its edge."""
    back = cv2.invertAffineTransform(matrix.astype(np.float64))
    corners = np.array([(-1, -1), (size, -1), (-1, size), (size, size)], np.float64) @ back[:, :2].T + back[:, 2]
    end = np.array(frame)
    low, high = np.floor(corners.min(0)), np.ceil(corners.max(0)) + 1
    low, high = np.minimum(low, 2 * end - 1 - high), np.maximum(high, 1 - low)
    low = np.clip(low, 0, np.maximum(end - 2, 0)).astype(int)
    high = np.clip(high, np.minimum(low + 2, end), end).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def enlarged(matrix: Floats | NDArray[np.float64], times: int) -> NDArray[np.float64]:
    """Return the matrix (2, 3) of the same canvas with `times` pixels for each one."""
    larger = matrix.astype(np.float64) * times
    larger[:, 2] += (times - 1) / 2
    return larger


def finer(matrices: Floats) -> int:
    """Return how many times a canvas (1, 2 or 4) must be enlarged to hold about what the film shows. matrices: (T, 2, 3)."""
    return enlargement(float(np.median(np.sqrt(np.abs(np.linalg.det(matrices[:, :, :2]))))))


def enlargement(scale: float) -> int:
    """Return how many times a canvas of so many pixels per frame pixel must be enlarged not to be coarse: 1, 2 or 4."""
    return 1 if scale >= 0.75 else 2 if scale > 0.4 else 4


def yaw_degrees(landmarks: Floats) -> Floats:
    """Return float32 (T,), how far faces (T, 468, 2) are turned to the side, by where the nose lies between the cheeks."""
    right, left, nose = landmarks[:, 234], landmarks[:, 454], landmarks[:, 1]
    half = (left - right) / 2
    norm = np.maximum(np.square(half).sum(1), 1e-6)
    aside = ((nose - (left + right) / 2) * half).sum(1) / norm
    return np.asarray(np.degrees(np.arctan(CHEEK_OVER_NOSE * aside)), np.float32)
