"""How often a mouth is open that was told to be silent."""

from __future__ import annotations

import numpy as np
import pytest

from marks import face, noise, window
from unisync.metrics.leak import OPEN, LipLeak, aspect
from unisync.types import Floats, Window

WIDTH = 20.0


def mouths(heights: list[float]) -> Window:
    """Return a window of mouths 20 px wide whose lips are so many px apart."""
    marks: Floats = np.stack([face()] * len(heights))
    marks[:, 78], marks[:, 308] = (38, 58), (38 + WIDTH, 58)
    for points, height in zip(marks, heights, strict=True):
        points[13], points[14] = (48, 58 - height / 2), (48, 58 + height / 2)
    return window(noise(len(heights), 5), marks)


def test_the_aspect_is_height_over_width() -> None:
    np.testing.assert_allclose(aspect(mouths([0, 5, 30]).landmarks), [0, 0.25, 1.5], rtol=1e-5)


def test_the_leak_is_the_share_of_open_frames() -> None:
    metric = LipLeak()
    over, under = WIDTH * OPEN + 0.1, WIDTH * OPEN - 0.1
    metric.update(mouths([0, under, over]), mouths([over, 9, 9]))
    metric.update(mouths([0]), mouths([under]))
    assert metric.compute() == {"lip_leak": pytest.approx(1 / 4), "lip_leak_source": pytest.approx(3 / 4)}


def test_the_source_is_needed() -> None:
    with pytest.raises(ValueError, match="needs a truth"):
        LipLeak().update(mouths([1]))
