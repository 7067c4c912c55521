"""What published networks are shown: the places of a face on ArcFace's canvas, SyncNet's crop, and whole frames."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.signal import medfilt

from marks import face
from unisync.face.align import transform
from unisync.face.views import ARCFACE, VIEWS, syncnet_matrices
from unisync.metrics.learned import Learned
from unisync.registry import load, names
from unisync.types import Floats, Pixels

FRAME = 320, 240


def picture(seed: int = 0) -> Pixels:
    """Return a smooth picture of the frame's size."""
    rough = np.random.default_rng(seed).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    return np.asarray(cv2.GaussianBlur(rough, (0, 0), 3))


def moving(num: int) -> Floats:
    """Return landmarks (num, 468, 2) px of a face that moves, grows and trembles, near the frame's border."""
    rng = np.random.default_rng(1)
    places = [np.array([3 * i - 12, 60 + i]) + rng.normal(0, 2, 2) for i in range(num)]
    return np.stack([face(size=90 + i) + place for i, place in enumerate(places)]).astype(np.float32)


def test_every_learned_metrics_view_is_there() -> None:
    for name in names("metric"):
        metric = load("metric", name)
        if issubclass(metric, Learned):
            assert metric.view in VIEWS and metric.size > 0, name


def test_arcface_sees_the_points_where_it_wants_them() -> None:
    """A face whose five points are the template's, turned and enlarged, comes to lie on the template."""
    marks = np.zeros((1, 468, 2), np.float32)
    turn = 2.5 * np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    right, left, nose, *corners = ARCFACE @ turn.T + (90, 20)
    for pair, eye in (([33, 133], right), ([362, 263], left)):
        marks[0, pair] = np.stack([eye - (9, 1), eye - (-9, -1)])
    marks[0, 1], marks[0, [61, 291]] = nose, corners
    matrix = VIEWS["arcface"].matrices(marks, FRAME, 112)[0]
    np.testing.assert_allclose(transform(marks[0, [1, 61, 291]], matrix), ARCFACE[2:], atol=0.01)
    twice = VIEWS["arcface"].matrices(marks, FRAME, 224)[0]
    np.testing.assert_allclose(twice, 2 * matrix, atol=1e-3)


def published_crop(frame: Pixels, x: float, y: float, s: float) -> Pixels:
    """Return the crop of a box's centre and half side as syncnet_python cuts it: pad with grey, slice, resize."""
    pad = int(s * 1.8)
    wide = np.pad(frame, ((pad, pad), (pad, pad), (0, 0)), constant_values=110)
    across, down = x + pad, y + pad
    part = wide[int(down - s) : int(down + s * 1.8), int(across - s * 1.4) : int(across + s * 1.4)]
    return np.asarray(cv2.resize(part, (224, 224)))


@pytest.mark.parametrize("num", [5, 30])
def test_syncnets_crop_is_the_published_one(num: int) -> None:
    marks = moving(num)
    low, high = marks.min(1).astype(np.float64), marks.max(1).astype(np.float64)
    track = np.column_stack([(low + high) / 2, (high - low).max(1) / 2])
    if num >= 13:
        track = np.column_stack([medfilt(column, 13) for column in track.T])
    matrices = syncnet_matrices(marks, FRAME, 224)
    outside = 0
    for (x, y, s), matrix in zip(track, matrices, strict=True):
        made, expected = VIEWS["syncnet"].show(picture(), matrix, 224), published_crop(picture(), x, y, s)
        inner = np.abs(made.astype(int) - expected)[2:-2, 2:-2]  # a crop's own rim has neighbours here and none there
        assert inner.max() <= 3 and inner.mean() < 0.5
        outside += int((expected == 110).all(2).sum())
    assert outside > 0, "the faces lie near the border"


def test_whole_frames_are_squeezed_as_opencv_resizes_them() -> None:
    view = VIEWS["frame"]
    matrix = view.matrices(moving(2), FRAME, 100)[1]
    inner = np.abs(view.show(picture(), matrix, 100).astype(int) - cv2.resize(picture(), (100, 100)))[2:-2, 2:-2]
    assert view.whole and inner.max() <= 3 and inner.mean() < 0.5
