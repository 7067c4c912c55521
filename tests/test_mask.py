from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from unisync.face.align import canvas_matrices, transform
from unisync.face.box import drawn_landmarks
from unisync.face.detect import FaceModels
from unisync.mask import LIPS, OUTLINE, face_mask, lips_mask, mouth_mask
from unisync.types import Floats


@pytest.fixture(scope="module")
def face() -> Floats:
    """A frontal face with closed lips, in px."""
    return drawn_landmarks(FaceModels()) * np.float32((300, 350)) + 50


def on_canvas(landmarks: Floats, size: int) -> Floats:
    return transform(landmarks, canvas_matrices(landmarks[None], size, [0.0])[0])


def turned(face: Floats, share: float) -> Floats:
    """Return the face as if turned to the right: its left half narrows by `share`."""
    x = face[:, :1] - face[2, 0]
    return np.concatenate([face[2, 0] + np.where(x < 0, x * (1 - share), x), face[:, 1:]], axis=1).astype(np.float32)


def at(mask: Floats, point: Floats) -> float:
    x, y = np.round(point).astype(int)
    return float(mask[y, x])


@pytest.mark.parametrize("size", [64, 128, 256])
def test_exact_ends(face: Floats, size: int) -> None:
    points = on_canvas(face, size)
    mask = mouth_mask(points, size)
    assert mask.dtype == np.float32
    assert mask.min() == 0
    assert mask.max() == 1
    assert not mask[[0, -1]].any()
    assert not mask[:, [0, -1]].any()
    for i in LIPS:
        assert at(mask, points[i]) == 1
    assert at(mask, points[1]) < 0.25  # the nose's tip
    for i in (33, 133, 362, 263, 168, 10):  # eyes, the nose's root, the brow
        assert at(mask, points[i].clip(0, size - 1)) == 0


def test_an_opening_jaw_has_room_and_the_rim_is_smooth(face: Floats) -> None:
    points = on_canvas(face, 128)
    mask = mouth_mask(points, 128)
    assert at(mask, points[152] + (0, 4)) > 0.3
    steps = max(np.abs(np.diff(mask, axis=0)).max(), np.abs(np.diff(mask, axis=1)).max())
    assert steps < 0.35


def test_options(face: Floats) -> None:
    points = on_canvas(face, 128)
    assert mouth_mask(points, 128, dilate=0.06).sum() > mouth_mask(points, 128, dilate=0.01).sum()
    narrow, wide = (mouth_mask(points, 128, blur=blur) for blur in (0.02, 0.08))
    assert ((wide > 0) & (wide < 1)).sum() > ((narrow > 0) & (narrow < 1)).sum()


@pytest.mark.parametrize("share", [0.0, 0.4, 0.7])
def test_the_far_side_ends_at_the_face(face: Floats, share: float) -> None:
    points = on_canvas(turned(face, share), 128)
    mask = mouth_mask(points, 128)
    row = round(float(points[14, 1]))
    edge = min(float(points[i, 0]) for i in OUTLINE if abs(points[i, 1] - row) < 12)
    assert not mask[row, : max(0, int(edge) - 6)].any()


def test_lips_are_inside_the_mouth_mask_and_reach_down(face: Floats) -> None:
    points = on_canvas(face, 128)
    lips, mouth = lips_mask(points, 128), mouth_mask(points, 128)
    for i in LIPS:
        assert at(lips, points[i]) > 0.4
    assert at(lips, points[[13, 14]].mean(0)) == 1
    assert at(lips, points[17] + (0, 5)) == 1
    assert at(lips, points[152]) == 0
    assert (mouth[lips > 0] > 0).all()


def test_a_face_beyond_the_canvas_does_no_harm(face: Floats) -> None:
    for shift in (-400, 400):
        mask = mouth_mask(on_canvas(face, 128) + np.float32(shift), 128)
        assert np.isfinite(mask).all()
        assert not mask.any()


@pytest.mark.parametrize("mask_of", [mouth_mask, face_mask, lips_mask])
def test_a_mask_is_drawn_once_for_the_same_points_and_cannot_be_written_to(
    face: Floats, mask_of: Callable[[Floats, int], Floats]
) -> None:
    points = on_canvas(face, 128)
    mask = mask_of(points, 128)
    assert mask_of(points.copy(), 128) is mask
    points[:, 0] += 5
    assert np.allclose(mask_of(points, 128)[40:120, 25:105], mask[40:120, 20:100], atol=1e-3)
    assert mask_of(points, 64).shape == (64, 64)
    with pytest.raises(ValueError, match="read-only"):
        mask[:] = 0
