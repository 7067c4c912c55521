"""Metrics on pixels: sharpness and flicker of the mouth, the seam around it, and what was left alone outside it."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from unisync.mask import lips_mask, mouth_mask
from unisync.metrics.base import NOTHING_SEEN, Better, Value, beside, ratio
from unisync.types import Floats, Pixels, Window

Region = NDArray[np.bool_]


def lips_region(landmarks: Floats, size: int) -> Region:
    """Return the lips, the mouth between them and where an opening mouth would reach, bool (size, size)."""
    return lips_mask(landmarks, size) > 0.5


def rim_region(landmarks: Floats, size: int) -> Region:
    """Return where what was painted passes over into what was there, bool (size, size)."""
    mask = mouth_mask(landmarks, size)
    return (mask > 0) & (mask < 1)


def whole_region(landmarks: Floats, size: int) -> Region:
    """Return the whole canvas, bool (size, size)."""
    return np.ones((size, size), bool)


def free_region(landmarks: Floats, size: int) -> Region:
    """Return where no mask lies, nor within two pixels of one, since canvases are interpolated, bool (size, size)."""
    touched = (mouth_mask(landmarks, size) > 0).astype(np.uint8)
    return np.asarray(cv2.dilate(touched, np.ones((5, 5), np.uint8)) == 0)


class _Detail:
    """Variance of the luma's Laplacian in a region of the source's face, as a share of the source's own."""

    name: str
    region: Callable[[Floats, int], Region]

    def __init__(self) -> None:
        self._made = self._truth = 0.0

    def update(self, made: Window, truth: Window | None = None) -> None:
        truth = beside(made, truth, self.name)
        for new, old, points in zip(made.pixels, truth.pixels, truth.landmarks, strict=True):
            region = type(self).region(points, new.shape[0])
            if region.any():
                self._made += _detail(new, region)
                self._truth += _detail(old, region)

    def compute(self) -> dict[str, Value]:
        return {self.name: ratio(self._made, self._truth, "a source without any texture")}


class Sharpness(_Detail):
    """Fine texture of the lips beside the source's: below 1 they are soft, above it noisy."""

    name = "sharpness"
    unit = "of the source's"
    better: Better = "one"
    region = staticmethod(lips_region)


class Seam(_Detail):
    """Fine texture of the mask's rim beside the source's: an edge that is not the face's own raises it over 1."""

    name = "seam"
    unit = "of the source's"
    better: Better = "one"
    region = staticmethod(rim_region)


class Flicker:
    """Mean change of the lips' pixels from frame to frame, as a share of the source's own."""

    name = "flicker"
    unit = "of the source's"
    better: Better = "one"

    def __init__(self) -> None:
        self._made = self._truth = 0.0

    def update(self, made: Window, truth: Window | None = None) -> None:
        truth = beside(made, truth, self.name)
        size = made.pixels.shape[1]
        for i in range(1, len(made)):
            region = lips_region(truth.landmarks[i], size)
            if region.any():
                self._made += _change(made.pixels[i - 1 : i + 1], region)
                self._truth += _change(truth.pixels[i - 1 : i + 1], region)

    def compute(self) -> dict[str, Value]:
        return {self.name: ratio(self._made, self._truth, "a source that does not move")}


class Likeness:
    """Peak signal-to-noise ratio over chosen pixels, and the largest error there."""

    name: str
    region: Callable[[Floats, int], Region]

    def __init__(self) -> None:
        self._squares, self._num, self.worst = 0, 0, 0

    def add(self, made: Pixels, truth: Pixels, region: Region) -> None:
        """Take one picture (H, W, 3) beside the truth's, where region (H, W) holds."""
        gap = np.abs(made[region].astype(np.int64) - truth[region])
        self._squares += int((gap * gap).sum())
        self._num += gap.size
        self.worst = max(self.worst, int(gap.max(initial=0)))

    def update(self, made: Window, truth: Window | None = None) -> None:
        """Take a stretch on canvases, in each of them the pixels of its region."""
        truth = beside(made, truth, self.name)
        for new, old, points in zip(made.pixels, truth.pixels, truth.landmarks, strict=True):
            self.add(new, old, type(self).region(points, new.shape[0]))

    def compute(self) -> dict[str, Value]:
        return {self.name: self.psnr()}

    def psnr(self) -> Value:
        """Return the ratio in dB."""
        if not self._num:
            return NOTHING_SEEN
        return float(10 * np.log10(255**2 * self._num / self._squares)) if self._squares else "no error"


class OutsideMask(Likeness):
    """Likeness to the source where no mask lies, and by how much the worst sample is off."""

    name = "outside_mask"
    unit = "dB"
    better: Better = "higher"
    region = staticmethod(free_region)

    def compute(self) -> dict[str, Value]:
        return {self.name: self.psnr(), "outside_worst": float(self.worst) if self._num else NOTHING_SEEN}


class MouthLikeness(Likeness):
    """Likeness of the painted mouth to the truth's, where the film is dubbed with its own speech."""

    name = "mouth_likeness"
    unit = "dB"
    better: Better = "higher"
    region = staticmethod(lips_region)


def _detail(pixels: Pixels, region: Region) -> float:
    luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(luma, cv2.CV_64F)[region].var())


def _change(pair: Pixels, region: Region) -> float:
    before, after = pair[:, region].astype(np.int16)
    return float(np.abs(after - before).mean())
