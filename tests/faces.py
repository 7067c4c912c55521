"""A real face (it ships in scikit-image) laid where a test wants it, so that the truth is known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import cache

import cv2
import numpy as np
from skimage import data

from unisync.types import ArrayPicture, Floats, Frame, Pixels

FACE = np.array([222.0, 120.0])
"""The middle of the face in the picture, px; the face is about 90 px wide there."""


@cache
def portrait() -> Pixels:
    return np.ascontiguousarray(data.astronaut())


def lay(places: Iterable[tuple[float, float, float]], size: tuple[int, int] = (480, 360)) -> Pixels:
    """Return a picture (W, H) with the face at each (x, y, zoom), on a soft pattern."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    picture = np.stack([90 + 30 * np.sin(x / 40), 110 + 20 * np.sin(y / 30), 100 + 20 * np.sin((x + y) / 50)], -1)
    picture = picture.astype(np.uint8)
    for x0, y0, zoom in places:
        matrix = np.array([[zoom, 0, x0 - zoom * FACE[0]], [0, zoom, y0 - zoom * FACE[1]]])
        face = cv2.warpAffine(portrait(), matrix, size, flags=cv2.INTER_AREA)
        oval = np.zeros((height, width), np.uint8)
        cv2.ellipse(oval, (round(x0), round(y0)), (round(75 * zoom), round(100 * zoom)), 0, 0, 360, 255, -1)
        picture[oval > 0] = face[oval > 0]
    return picture


def frames(pictures: Iterable[Pixels], rate: int = 25) -> Iterator[Frame]:
    for index, pixels in enumerate(pictures):
        yield Frame(index, Fraction(index, rate), ArrayPicture(pixels))


def middle(landmarks: Floats) -> Floats:
    """Return the middle of the outer eye corners, (..., 2)."""
    return (landmarks[..., 33, :] + landmarks[..., 263, :]) / 2
