from __future__ import annotations

import cv2
import numpy as np
import pytest

from faces import frames, lay, middle
from unisync.face.box import BoxFollower, drawn_face, drawn_landmarks, track_box
from unisync.face.detect import FaceModels
from unisync.types import Floats, Pixels


@pytest.fixture(scope="module")
def models() -> FaceModels:
    return FaceModels()


def puppet(x: float, y: float, zoom: float = 1.0) -> Pixels:
    """A thing that is no face: a spotted ball around (x, y), 80 px wide."""
    picture = np.full((240, 320, 3), 90, np.uint8)
    random = np.random.default_rng(3)
    centre = np.array([x, y])
    cv2.circle(picture, _px(centre), round(40 * zoom), (60, 160, 90), -1, cv2.LINE_AA)
    for _ in range(30):
        spot = centre + zoom * random.uniform(-24, 24, 2)
        colour = tuple(int(c) for c in random.integers(0, 255, 3))
        cv2.circle(picture, _px(spot, 4), round(16 * 3 * zoom), colour, -1, cv2.LINE_AA, 4)
    return cv2.GaussianBlur(picture, (3, 3), 0)


def _px(point: Floats, shift: int = 0) -> tuple[int, int]:
    x, y = np.round(np.asarray(point) * (1 << shift)).astype(int)
    return int(x), int(y)


def box(x: float, y: float, half: float = 40) -> Floats:
    return np.array([x - half, y - half, x + half, y + half], np.float32)


def test_a_region_is_followed_there_and_does_not_drift() -> None:
    follower = BoxFollower(puppet(100, 120), box(100, 120))
    for i in range(1, 80):
        x, y, zoom = 100 + 60 * np.sin(i / 12), 120 + 20 * np.sin(i / 7), 1 + 0.2 * np.sin(i / 20)
        moved = follower.feed(puppet(x, y, zoom))
        assert moved is not None
        assert np.abs(moved[:, :2] @ (100, 120) + moved[:, 2] - (x, y)).max() < 2
        assert abs(np.sqrt(np.linalg.det(moved[:, :2])) - zoom) < 0.05


def test_a_region_that_vanishes_is_lost() -> None:
    follower = BoxFollower(puppet(100, 120), box(100, 120))
    assert follower.feed(np.full((240, 320, 3), 90, np.uint8)) is None


def test_the_drawn_face_is_symmetric_with_closed_lips(models: FaceModels) -> None:
    face = drawn_landmarks(models)
    assert np.allclose(face.min(0), 0)
    assert np.allclose(face.max(0), 1)
    for right, left in ((33, 263), (133, 362), (61, 291), (172, 397)):
        assert np.abs(face[right] - face[left] * (-1, 1) - (1, 0)).max() < 0.02
    for i in (10, 2, 13, 152):
        assert abs(face[i, 0] - 0.5) < 0.02
    assert np.linalg.norm(face[13] - face[14]) < 0.03
    assert face[33, 1] < face[2, 1] < face[13, 1] < face[152, 1]


def test_what_is_no_face_gets_the_drawn_one_both_ways_from_its_frame(models: FaceModels) -> None:
    film = list(frames(puppet(100 + 3 * i, 120) for i in range(21)))
    found = track_box(models, box(130, 120), film[10:], film[9::-1], "box1")
    assert (found.name, found.start, found.stop) == ("box1", 0, 21)
    assert (found.score == 1).all()
    assert np.abs(found.boxes[10] - box(130, 120)).max() < 0.5
    centre = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
    assert np.abs(centre[:, 0] - (100 + 3 * np.arange(21))).max() < 2


def test_where_there_is_a_face_the_mesh_is_used(models: FaceModels) -> None:
    film = list(frames(lay([(200 + 2 * i, 180, 1.2)]) for i in range(8)))
    found = track_box(models, np.array([145, 115, 255, 250], np.float32), film, [], "box1")
    (detected,) = models.find(film[0].pixels)
    eyes = detected.keypoints[:2].mean(0)
    assert np.abs(middle(found.landmarks)[0] - eyes).max() < 6


def test_a_track_ends_where_its_region_leaves_the_frame(models: FaceModels) -> None:
    film = list(frames(puppet(200 + 6 * i, 120) for i in range(40)))
    found = track_box(models, box(200, 120), film, [], "box1")
    assert 17 <= found.stop <= 23  # half of it is outside at frame 20


def test_the_drawn_face_is_a_face_to_the_detector(models: FaceModels) -> None:
    assert len(models.find(drawn_face(256), tiles=False)) == 1
