"""The data: what is checked where it is made, and what it says about itself."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unisync.types import NUM_LANDMARKS, ArrayPicture, Edit, Frame, Plan, Report, Shot, Sound, Track, Window


def track(name: str, start: int, stop: int) -> Track:
    num = stop - start
    ones = np.ones(num, np.float32)
    points = np.zeros((num, NUM_LANDMARKS, 2), np.float32)
    return Track(name, start, stop, points, np.zeros((num, 4), np.float32), ones, ones)


def test_a_picture_is_rgb_and_gives_copies() -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)
    picture = ArrayPicture(pixels)
    picture.rgb()[:] = 9
    assert picture.size == (6, 4)
    assert not pixels.any()
    for bad in (np.zeros((4, 6), np.uint8), np.zeros((4, 6, 3), np.float32), np.zeros((4, 6, 4), np.uint8)):
        with pytest.raises(ValueError, match="pixels must be uint8"):
            ArrayPicture(bad)


@pytest.mark.parametrize("area", [(0, 0, 6, 4), (1, 2, 3, 4), (2, 3, 6, 4), (0, 0, 1, 2), (4, 0, 6, 2)])
def test_a_part_is_what_the_whole_shows_there(area: tuple[int, int, int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    frame = Frame(0, Fraction(0), ArrayPicture(pixels)).edited(
        Edit(1, 1, np.full((3, 3, 3), 7, np.uint8), np.array([[1, 0, 1], [0, 1, 0], [1, 1, 1]], np.float32))
    )
    part = frame.part(area)
    left, top, right, bottom = area
    assert np.array_equal(part, frame.pixels[top:bottom, left:right])
    assert np.array_equal(frame.part(area), part)
    assert (frame.pixels == 7).any()
    for bad in ((-1, 0, 2, 2), (0, 0, 7, 4), (2, 1, 2, 3)):
        with pytest.raises(ValueError, match="no area of a frame of 6x4"):
            frame.part(bad)


def test_edits_lie_on_top_in_order_and_only_under_their_mask() -> None:
    frame = Frame(0, Fraction(0), ArrayPicture(np.zeros((4, 6, 3), np.uint8)))
    mask = np.array([[1, 0], [0.1, 0]], np.float32)
    below = Edit(1, 2, np.full((2, 2, 3), 7, np.uint8), mask)
    above = Edit(1, 2, np.full((1, 1, 3), 8, np.uint8), np.ones((1, 1), np.float32))
    made = frame.edited(below).edited(above).pixels[..., 0]
    assert made.sum() == 8 + 7
    assert (made[2, 1], made[3, 1]) == (8, 7)
    assert not frame.pixels.any()
    with pytest.raises(ValueError, match="differ in size"):
        Edit(0, 0, np.zeros((2, 3, 3), np.uint8), mask)


@given(st.integers(0, 50), st.floats(-2, 4), st.floats(-2, 4))
def test_a_cut_of_a_sound_is_as_long_as_asked_and_silent_outside(num: int, start: float, stop: float) -> None:
    sound = Sound(np.arange(1, num + 1, dtype=np.float32), 10)
    made = sound.cut(start, stop).samples
    first = round(start * 10)
    expected = [float(i + 1) if 0 <= i < num else 0.0 for i in range(first, round(stop * 10))]
    assert made.tolist() == expected


def test_a_sound_is_mono_float_with_a_rate() -> None:
    with pytest.raises(ValueError, match="float32"):
        Sound(np.zeros(4), 10)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="float32"):
        Sound(np.zeros((4, 2), np.float32), 10)
    with pytest.raises(ValueError, match="rate"):
        Sound(np.zeros(4, np.float32), 0)


def test_a_track_has_one_of_everything_per_frame() -> None:
    assert len(track("a", 3, 7)) == 4
    with pytest.raises(ValueError, match="is empty"):
        track("a", 3, 3)
    whole = track("a", 0, 4)
    with pytest.raises(ValueError, match="boxes is"):
        Track("a", 0, 4, whole.landmarks, whole.boxes[:3], whole.score, whole.speaking)


def test_shots_hold_their_tracks_and_plans_have_no_gaps() -> None:
    shots = (Shot(0, 4, (track("a", 0, 4),)), Shot(4, 9, (track("b", 5, 9), track("c", 4, 6))))
    plan = Plan("film", 8, 8, shots, tuple(Fraction(i, 25) for i in range(9)))
    assert [t.name for t in plan.tracks] == ["a", "b", "c"]
    with pytest.raises(ValueError, match="leaves its shot"):
        Shot(0, 4, (track("a", 2, 5),))
    with pytest.raises(ValueError, match="expected 4"):
        Plan("film", 8, 8, (shots[0], Shot(5, 9)), plan.seconds)
    with pytest.raises(ValueError, match="the shots end at frame 9, the film at 8"):
        Plan("film", 8, 8, shots, plan.seconds[:-1])


def test_a_window_is_square_and_whole() -> None:
    sound = Sound(np.zeros(4, np.float32), 10)
    points = np.zeros((2, NUM_LANDMARKS, 2), np.float32)
    assert len(Window(0, np.zeros((2, 8, 8, 3), np.uint8), np.zeros(2), points, sound)) == 2
    with pytest.raises(ValueError, match="pixels must be"):
        Window(0, np.zeros((2, 8, 9, 3), np.uint8), np.zeros(2), points, sound)
    with pytest.raises(ValueError, match="2 canvases"):
        Window(0, np.zeros((2, 8, 8, 3), np.uint8), np.zeros(3), points, sound)


def test_a_report_is_one_line_for_people_and_json_for_machines() -> None:
    report = Report("a.mp4", "b.wav", "c.mp4", 125, 5.0, 1, [{"name": "face1"}], [(0, 3), (100, 125)], 2.25, ["short"])
    assert report.line == "125 frames (5.00 s), 1 face, 28 skipped in 2 ranges, 2.25 s per second of film"
    read = json.loads(report.to_json())
    assert read["skipped"] == [[0, 3], [100, 125]]
    assert read["tracks"] == [{"name": "face1"}]
    assert read == report.to_dict()
    assert Report("a", "b", "c", 2, 0.1, 2).line.startswith("2 frames (0.10 s), 2 faces, 0 skipped, ")


@pytest.mark.parametrize("skipped", [[(3, 3)], [(0, 6)], [(2, 4), (3, 5)], [(-1, 2)]])
def test_a_report_skips_only_what_is_there(skipped: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="skipped"):
        Report("a", "b", "c", 5, 0.2, 1, skipped=skipped)
