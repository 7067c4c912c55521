"""Where a finished canvas may change the frame, and where the film's own fine texture stays out (paper, Eq 12)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache, wraps
from typing import TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from unisync.types import Floats

JAW = (58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288)
"""The face's outline from ear to ear below the mouth's height, through the chin."""
OUTLINE = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152,
           148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)  # fmt: skip
UPPER = (427, 426, 327, 2, 98, 206, 207)
"""The upper edge of what speech moves, from the left cheek under the nose to the right one."""
LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)

DILATE, BLUR = 0.03, 0.06
CHIN_ROOM = 0.10  # how far an opening jaw may go below the film's own chin
SIDE_ROOM = 0.02  # how far beyond the face's outline the mask may reach
INSET = 0.06  # the jaw's sides are drawn in by this share towards the mouth
SUBPIXEL = 4  # polygons are placed to 2 ** -4 px
KEPT_BYTES = 1 << 23
"""What the latest masks of each kind and size may take in memory."""

Points = NDArray[np.float64]
MaskOf = TypeVar("MaskOf", bound=Callable[..., Floats])


def _kept(mask_of: MaskOf) -> MaskOf:
    """Keep the latest masks, read-only: lending, painting, texture and pasting ask for the same frame's, one after another."""

    @cache
    def of_size(size: int) -> Callable[[bytes], Floats]:
        def drawn(points: bytes) -> Floats:
            mask = mask_of(np.frombuffer(points, np.float32).reshape(-1, 2), size)
            mask.flags.writeable = False
            return mask

        return lru_cache(max(1, KEPT_BYTES // (4 * size * size)))(drawn)

    @wraps(mask_of)
    def asked(landmarks: Floats, size: int, **shape: float) -> Floats:
        if shape:
            return mask_of(landmarks, size, **shape)
        return of_size(size)(np.asarray(landmarks, np.float32).tobytes())

    return cast(MaskOf, asked)


@_kept
def mouth_mask(landmarks: Floats, size: int, *, dilate: float = DILATE, blur: float = BLUR) -> Floats:
    """Return M_blur of Eq 12, float32 (size, size): exactly 1 at the mouth, exactly 0 outside and on the canvas's edge.

    landmarks: (468, 2) canvas px.  dilate: how far the raw mask grows, blur: its rim's width, as shares of the side.
    """
    points = landmarks.astype(np.float64)
    down = _down(points)
    jaw, mouth = points[list(JAW)], points[list(LIPS)].mean(0)
    sunk = jaw + (mouth - jaw) * INSET
    depth = np.clip((sunk - mouth) @ down / max(float(((jaw - mouth) @ down).max()), 1e-6), 0, 1)
    sunk += depth[:, None] ** 2 * down * CHIN_ROOM * 0.5 * size
    upper = points[list(UPPER)] + down * dilate * size  # so that growing ends at the nose
    raw = _polygon(np.concatenate([sunk, upper]), size)
    radius = max(1, round(blur * size))
    grown = np.asarray(cv2.dilate(raw, _disc(max(1, round(dilate * size)))), np.float32)
    return _exact(_blurred(grown, radius, radius / 2) * face_mask(landmarks, size) * _rim(size, radius))


@_kept
def face_mask(landmarks: Floats, size: int, *, inset: float = 0.0) -> Floats:
    """Return float32 (size, size): 1 inside the face's outline and below the chin, falling to 0 just beyond.

    landmarks: (468, 2) canvas px. What lies behind a far cheek is outside.  inset: how much smaller, as a share of the side.
    """
    points = landmarks.astype(np.float64)
    down, outline, chin, height = _down(points), points[list(OUTLINE)], points[152], points[2]
    depth = np.clip((outline - height) @ down / max(float((chin - height) @ down), 1e-6), 0, 1)
    outline = outline + depth[:, None] ** 2 * down * CHIN_ROOM * size
    room = max(1, round(SIDE_ROOM * size))
    disc = _disc(room + round(inset * size))
    inside = np.asarray(cv2.erode(_polygon(outline, size), disc, borderType=cv2.BORDER_REPLICATE), np.float32)
    return _blurred(inside, 2 * room, room / 1.2)


def canvas_mask(size: int, *, blur: float = BLUR) -> Floats:
    """Return float32 (size, size): 1 all over the canvas, falling to exactly 0 on its edge. blur: as a share of the side."""
    return _rim(size, max(1, round(blur * size)))


@_kept
def lips_mask(landmarks: Floats, size: int, *, dilate: float = 0.03) -> Floats:
    """Return float32 (size, size) in [0, 1]: lips, the mouth between them, and where an opening mouth would reach.

    landmarks: (468, 2) canvas px.  dilate: as a share of the side.
    """
    points = landmarks.astype(np.float64)
    lips = points[list(LIPS)]
    lower = lips[10:] + _down(points) * 0.06 * size
    hull = np.asarray(cv2.convexHull(np.concatenate([lips, lower[1:-1]]).astype(np.float32)), np.float64)[:, 0]
    radius = max(1, round(dilate * size))
    grown = np.asarray(cv2.dilate(_polygon(hull, size), _disc(radius)), np.float32)
    return _exact(_blurred(grown, radius, radius / 2))


def _down(points: Points) -> Points:
    """Return the unit vector from the eyes to the chin's side, (2,)."""
    across = points[263] - points[33]
    length = max(float(np.linalg.norm(across)), 1e-6)
    return np.array([-across[1], across[0]]) / length


def _rim(size: int, width: int) -> Floats:
    """Return a ramp from 0 on the canvas's outermost pixels to 1 `width` px further in."""
    ramp = np.minimum(np.arange(size), np.arange(size)[::-1]) / width
    ramp = np.clip(ramp, 0, 1).astype(np.float32)
    return np.minimum(ramp[:, None], ramp[None])


def _polygon(outline: Points, size: int) -> Floats:
    mask = np.zeros((size, size), np.uint8)
    shape = np.round(np.clip(outline, -size, 2 * size) * (1 << SUBPIXEL)).astype(np.int32)
    cv2.fillPoly(mask, [shape], 1, shift=SUBPIXEL)
    return mask.astype(np.float32)


def _blurred(mask: Floats, radius: int, sigma: float) -> Floats:
    """Blur by a Gaussian that ends after `radius` px, so that what lies further away stays exactly 0 or 1."""
    side = 2 * radius + 1
    return np.asarray(cv2.GaussianBlur(mask, (side, side), sigma, borderType=cv2.BORDER_REPLICATE), np.float32)


def _disc(radius: int) -> NDArray[np.uint8]:
    side = 2 * radius + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)


def _exact(mask: Floats) -> Floats:
    """Snap what rounding left near the ends, so that the centre is 1 and the outside 0 bit for bit."""
    mask = np.clip(mask, 0, 1).astype(np.float32)
    mask[mask > 1 - 1e-3] = 1
    mask[mask < 1e-3] = 0
    return mask
