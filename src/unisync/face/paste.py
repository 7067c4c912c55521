"""How a finished canvas gets back into its frame: warped, given the film's texture, blended by its mask (Eq 12)."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from unisync.face.align import enlarged, enlargement, shifted
from unisync.types import Area, Edit, Floats, Frame, Patch, Pixels

FINE = 0.8
"""Canvas pixels: what is finer is weak after a canvas smaller than the face."""
MAX_GAIN = 1.5
"""How much of it is given back at most, as a share of what is left."""


def paste(frame: Frame, patch: Patch) -> Frame:
    """Return `frame` with `patch` on top; the same frame where the patch's mask does not touch it.

    Where keep = 1 the frame changes by what the canvas changes, warped back, and keeps the detail that the canvas
    cannot hold; where keep = 0 it shows the canvas alone. The face may be partly outside the frame.
    """
    size = patch.mask.shape[0]
    area = _area(patch.mask, patch.matrix, frame.picture.size)
    if area is None:
        return frame
    left, top, right, bottom = area
    matrix, goal = shifted(patch.matrix, area), (right - left, bottom - top)
    seen, times = patch.seen.astype(np.float32), len(patch.pixels) // size
    kept = _enlarged(patch.keep[..., None] * seen, times)
    change = _warped(patch.pixels - kept, enlarged(matrix, times), goal)
    # linear, since a cubic would leave [0, 1] and reach beyond the mask
    weights = _laid(np.dstack([patch.mask, patch.keep]), matrix, goal, cv2.INTER_LINEAR)
    mask, keep = weights[..., 0], weights[..., 1]
    mask[mask > 1 - 1e-4] = 1
    # M (canvas + keep (source - seen)) + (1 - M) source; where M is 0 that is the source to the bit
    was = frame.part(area).astype(np.float32)
    if times == 1:  # an enlarged canvas brings its own texture
        change = _refined(change, was, _warped(seen, matrix, goal), mask, keep, FINE / _scale(patch.matrix))
    lost = cv2.multiply(was, cv2.merge([1 - keep] * 3))
    blended = cv2.add(was, cv2.multiply(cv2.subtract(change, lost), cv2.merge([mask] * 3)))
    made = np.asarray(cv2.convertScaleAbs(np.maximum(blended, 0)), np.uint8)
    return frame.edited(Edit(left, top, made, np.ascontiguousarray(mask)))


def beyond(frame: Frame, patch: Patch) -> tuple[Pixels, Pixels, NDArray[np.bool_]] | None:
    """Return what a frame shows under its last edit, which is `patch`'s, the edit, and where in it (h, w) no mouth is.

    None where the patch is no wider than the mouth.
    """
    if patch.mouth is None:
        return None
    edit = frame.edits[-1]
    height, width = edit.mask.shape
    area = edit.x, edit.y, edit.x + width, edit.y + height
    mouth = _laid(patch.mouth, shifted(patch.matrix, area), (width, height), cv2.INTER_LINEAR)
    under = replace(frame, edits=frame.edits[:-1]).part(area)
    return under, np.where(edit.mask[..., None] > 0, edit.pixels, under), (mouth == 0) & (edit.mask > 0)


def _refined(change: Floats, was: Floats, echo: Floats, mask: Floats, keep: Floats, sigma: float) -> Floats:
    """Return the change, its lips (keep < 1) as much sharper as the film beside them is than after the canvas alone.

    was: the film there, echo: the same through the canvas and back, both float32 (H, W, 3).  sigma: frame px.
    """
    beside = (mask == 1) & (keep == 1)
    if sigma < FINE or not beside.any() or not (keep < 1).any():
        return change
    own, left = (float(np.square(_fine(picture, sigma)[beside]).sum()) for picture in (was, echo))
    gain = float(np.clip(np.sqrt(own / max(left, 1e-6)) - 1, 0, MAX_GAIN))
    return np.asarray(change + (gain * (1 - keep))[..., None] * _fine(change, sigma), np.float32)


def _fine(picture: Floats, sigma: float) -> Floats:
    return np.asarray(cv2.subtract(picture, cv2.GaussianBlur(picture, (0, 0), sigma)), np.float32)


def _scale(matrix: Floats | NDArray[np.float64]) -> float:
    """Return canvas pixels per frame pixel."""
    return float(np.sqrt(abs(np.linalg.det(matrix[:, :2].astype(np.float64)))))


def _area(mask: Floats, matrix: Floats, frame: tuple[int, int]) -> Area | None:
    """Return the frame's rectangle that the mask can touch, None where there is none."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    x, y = (columns[0] - 1, columns[-1] + 1), (rows[0] - 1, rows[-1] + 1)
    corners = np.array([(a, b) for a in x for b in y], np.float64)
    back = cv2.invertAffineTransform(matrix.astype(np.float64))
    corners = corners @ back[:, :2].T + back[:, 2]
    left, top = np.maximum(np.floor(corners.min(0)), 0).astype(int)
    right, bottom = np.minimum(np.ceil(corners.max(0)) + 1, frame).astype(int)
    return (int(left), int(top), int(right), int(bottom)) if left < right and top < bottom else None


def _warped(canvas: Floats, matrix: NDArray[np.float64], goal: tuple[int, int]) -> Floats:
    """Return the canvas as it lies in the frame's rectangle, smooth where enlarged, not aliased where shrunk."""
    scale = _scale(matrix)
    if scale > 1.25:
        canvas = np.asarray(cv2.GaussianBlur(canvas, (0, 0), 0.3 * float(np.sqrt(scale**2 - 1))), np.float32)
    times = enlargement(scale)
    if times > 1:  # a cubic resize, then a linear warp: half the cost of a cubic warp
        canvas, matrix = _enlarged(canvas, times), enlarged(matrix, times)
    return _laid(canvas, matrix, goal, cv2.INTER_CUBIC if 0.75 <= scale <= 1.25 else cv2.INTER_LINEAR)


def _enlarged(canvas: Floats, times: int) -> Floats:
    if times == 1:
        return canvas
    return np.asarray(cv2.resize(canvas, None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC), np.float32)


def _laid(canvas: Floats, matrix: NDArray[np.float64], goal: tuple[int, int], how: int) -> Floats:
    flags = how | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(canvas, matrix, goal, flags=flags, borderMode=cv2.BORDER_REPLICATE), np.float32)
