from __future__ import annotations

import numpy as np
import pytest

from unisync.face.speaker import lip_opening, speaking
from unisync.types import Floats


def talker(opening: Floats, eyes: float = 60) -> Floats:
    """Return landmarks whose inner lips are `opening` eye distances apart."""
    landmarks = np.zeros((len(opening), 468, 2), np.float32)
    landmarks[:, 33], landmarks[:, 263] = (-eyes / 2, 0), (eyes / 2, 0)
    landmarks[:, 2, 1] = 0.5 * eyes
    landmarks[:, 13, 1], landmarks[:, 14, 1] = 0.8 * eyes, (0.8 + opening) * eyes
    return landmarks


@pytest.mark.parametrize("rate", [12.5, 25, 60])
def test_a_mouth_that_moves_speaks_and_one_that_does_not_is_silent(rate: float) -> None:
    seconds = np.arange(int(4 * rate)) / rate
    opening = np.where(seconds < 2, 0.02, 0.06 + 0.05 * np.sin(2 * np.pi * 4 * seconds)).astype(np.float32)
    score = speaking(talker(opening), seconds)
    assert score.dtype == np.float32
    assert score[seconds < 1].max() == 0
    assert score[seconds > 3].min() == 1


def test_the_faces_size_does_not_matter_and_an_open_mouth_alone_is_silent() -> None:
    opening = np.full(50, 0.3, np.float32)
    assert np.allclose(lip_opening(talker(opening, 20)), lip_opening(talker(opening, 300)), atol=1e-4)
    assert speaking(talker(opening), np.arange(50) / 25).max() == 0
    assert speaking(talker(opening[:1]), np.zeros(1)).tolist() == [0]
