"""Figures measure what they say, on faces whose truth is known, and filters ask them."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
import pytest

from unisync.face.align import yaw_degrees
from unisync.options import PrepareOptions
from unisync.training.canvases import Canvases, Span
from unisync.training.films import measure
from unisync.training.filters import FILTERS, occlusion, sharpness
from unisync.types import Plan, Shot, Track

SIZE = 128


def track(name: str, start: int, stop: int, speaking: float, yaw: float = 0.0) -> Track:
    """A face 100 px wide whose points are where a head turned by `yaw` degrees would have them."""
    num, angle = stop - start, np.radians(yaw)
    x, z = np.zeros(468), np.zeros(468)
    x[[234, 454, 1]], z[[234, 454, 1]] = (-7.66, 7.66, 0), (-2.44, -2.44, 7.48)
    across = 6.5 * (x * np.cos(angle) + z * np.sin(angle))
    points = np.tile(np.stack([200 + across, np.full(468, 100)], 1).astype(np.float32), (num, 1, 1))
    boxes = np.tile(np.float32([150, 50, 250, 160]), (num, 1))
    return Track(name, start, stop, points, boxes, np.ones(num, np.float32), np.full(num, speaking, np.float32))


def plan(*tracks: Track, rate: int = 25, num: int = 50) -> Plan:
    return Plan("film.mp4", 640, 360, (Shot(0, num, tracks),), tuple(Fraction(i, rate) for i in range(num)))


@pytest.mark.parametrize("yaw", [-50.0, -20.0, 0.0, 35.0])
def test_yaw_is_the_angle_of_the_head(yaw: float) -> None:
    assert np.allclose(yaw_degrees(track("a", 0, 3, 0, yaw).landmarks), yaw, atol=0.5)


def test_figures_of_a_plan() -> None:
    own, other = track("face1", 0, 50, 0.7, yaw=30), track("face2", 25, 50, 0.9)
    voice = np.zeros(200, np.float32)
    voice[100:] = 1  # from second 1 on, which is frame 25
    figures = measure(plan(own, other), Span(own, 0, 50, tuple(range(50))), voice)
    assert (figures["start"], figures["seconds"], figures["rate"], figures["face"]) == (0.0, 2.0, 25.0, 100.0)
    assert figures["yaw"] == pytest.approx(30, abs=0.5)
    assert (figures["speech"], figures["lips"], figures["rival"]) == (0.5, 0.7, 0.9)
    silent = measure(plan(own, other), Span(own, 0, 50, tuple(range(0, 50, 2))), np.zeros(0, np.float32))
    assert (silent["speech"], silent["lips"], silent["rival"], silent["rate"]) == (0.0, 0.0, 0.0, 12.5)


def test_blurred_faces_are_less_sharp(face: Canvases) -> None:
    values = [
        sharpness(np.stack([cv2.GaussianBlur(image, (0, 0), sigma) for image in face.pixels]), 1.0)
        for sigma in (0.3, 1, 3)
    ]
    assert values[0] > 1.5 * values[1] > 2.5 * values[2]
    assert values[0] > PrepareOptions().min_sharpness > values[2]


def test_a_small_face_is_judged_at_its_own_size(face: Canvases) -> None:
    half = np.stack([cv2.resize(image, (SIZE // 2, SIZE // 2), interpolation=cv2.INTER_AREA) for image in face.pixels])
    blown_up = np.stack([cv2.resize(image, (SIZE, SIZE)) for image in half])
    assert sharpness(blown_up, 2.0) == pytest.approx(sharpness(half, 1.0), rel=0.25)
    assert sharpness(blown_up, 1.0) < 0.5 * sharpness(half, 1.0)


def test_what_passes_before_the_mouth_is_seen_and_light_is_not(face: Canvases) -> None:
    lit = np.stack([np.clip(image * (0.8 + 0.03 * i), 0, 255).astype(np.uint8) for i, image in enumerate(face.pixels)])
    covered = face.pixels.copy()
    covered[3:5, 70:, 30:100] = (40, 60, 160)
    bound = PrepareOptions().max_occlusion
    assert occlusion(face.pixels, face.landmarks) < 0.1
    assert occlusion(lit, face.landmarks) < 0.5 * bound
    assert occlusion(covered, face.landmarks) > 1.5 * bound


def test_every_filter_has_its_option_and_can_be_turned_off() -> None:
    options = PrepareOptions()
    bad = {item.figure: 1e6 if item.most else -1.0 for item in FILTERS} | {"speech": 0.1}
    for item in FILTERS:
        bound = getattr(options, item.option)
        assert item.drops(bad, PrepareOptions(**{item.option: bound or 1}))
        assert not item.drops(bad, PrepareOptions(**{item.option: 0}))
        assert not item.drops({"speech": 1.0} | {item.figure: bound or 1.0}, options)  # at the bound itself is good
        if item.figure != "speech":
            assert not item.drops({"speech": 1.0}, options)  # what was not measured refuses nothing


def test_silent_samples_are_not_asked_about_speech() -> None:
    (lips,) = [item for item in FILTERS if item.figure == "lips"]
    assert lips.drops({"lips": 0.0, "speech": 0.5}, PrepareOptions())
    assert not lips.drops({"lips": 0.0, "speech": 0.0}, PrepareOptions())
