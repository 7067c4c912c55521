from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from faces import lay, middle
from unisync.face.detect import FaceModels
from unisync.face.track import GAP_SECONDS, Tracker, looks_like_a_face
from unisync.types import Pixels, Track

RATE = 25


@pytest.fixture(scope="module")
def models() -> FaceModels:
    return FaceModels()


def track(models: FaceModels, pictures: Iterable[Pixels], first: int = 0, rate: float = RATE) -> list[Track]:
    tracker = Tracker(models)
    for i, pixels in enumerate(pictures):
        tracker.feed(pixels, first + i, (first + i) / rate)
    return tracker.finish()


def test_a_moving_face_is_one_track_that_follows_it(models: FaceModels) -> None:
    places = [(120 + 6 * i, 180 + 2 * i, 1 + 0.01 * i) for i in range(30)]
    (found,) = track(models, (lay([place]) for place in places), first=100)
    assert (found.start, found.stop) == (100, 130)
    moved = middle(found.landmarks) - middle(found.landmarks)[0]
    # eyes lie above the middle that the zoom leaves in place: allow for that
    assert np.abs(moved - (np.array(places)[:, :2] - places[0][:2])).max() < 8
    assert found.score.min() > 0.5
    assert found.landmarks.dtype == found.boxes.dtype == np.float32


def test_two_faces_are_two_tracks_from_left_to_right(models: FaceModels) -> None:
    left, right = track(models, (lay([(360, 180, 0.8), (120 + i, 180, 1.0)]) for i in range(12)))
    assert middle(left.landmarks)[0, 0] < middle(right.landmarks)[0, 0]
    assert len(left) == len(right) == 12


def test_a_short_gap_is_filled_with_score_0(models: FaceModels) -> None:
    places = [(160 + 4 * i, 180, 1.2) for i in range(30)]
    pictures = [lay([place]) for place in places]
    for i in (12, 13, 14, 15):
        pictures[i] = lay([])
    (found,) = track(models, pictures)
    assert (found.start, found.stop) == (0, 30)
    assert np.flatnonzero(found.score == 0).tolist() == [12, 13, 14, 15]
    steps = np.diff(middle(found.landmarks)[:, 0])
    assert np.abs(steps[11:16] - 4).max() < 1.5  # in a straight line


def test_a_long_gap_splits_and_blips_are_dropped(models: FaceModels) -> None:
    gap = round(GAP_SECONDS * RATE) + 5
    shown, empty = lay([(240, 180, 1.2)]), lay([])
    found = track(models, [shown] * 12 + [empty] * gap + [shown] * 12 + [empty] * gap + [shown] * 3)
    assert [t.stop for t in found] == [12, 24 + gap]
    assert found[0].start == 0
    assert 0 <= found[1].start - (12 + gap) <= 3  # found when the frame is searched next


def test_nothing_is_carried_into_the_next_shot(models: FaceModels) -> None:
    tracker = Tracker(models)
    for i in range(10):
        tracker.feed(lay([(150, 180, 1.2)]), i, i / RATE)
    assert len(tracker.finish()) == 1
    for i in range(10, 20):
        tracker.feed(lay([]), i, i / RATE)
    assert tracker.finish() == []


def test_tiny_faces_are_dropped_and_a_still_gives_a_track(models: FaceModels) -> None:
    assert track(models, [lay([(240, 180, 0.17)])] * 10) == []
    (found,) = track(models, [lay([(240, 180, 1.2)])])
    assert len(found) == 1


def test_a_face_leaving_the_frame_ends_its_track(models: FaceModels) -> None:
    (found,) = track(models, (lay([(240 + 14 * i, 180, 1.2)]) for i in range(32)))
    assert found.start == 0
    assert 12 <= found.stop < 26  # its middle crosses the edge at frame 17


def test_only_faces_look_like_one(models: FaceModels) -> None:
    (found,) = track(models, [lay([(240, 180, 1.2)])])
    face, frame = found.landmarks[0], (360, 480)
    assert looks_like_a_face(face, 24, frame)
    assert not looks_like_a_face(face, 400, frame)
    assert not looks_like_a_face(face * np.float32((-1, 1)) + np.float32((480, 0)), 24, frame)  # mirrored
    assert not looks_like_a_face(face * np.float32((1, 0.2)), 24, frame)  # folded
    assert not looks_like_a_face(face + np.float32((400, 0)), 24, frame)  # outside
