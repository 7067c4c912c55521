"""Figures on landmarks, against faces whose lips and shape are planted."""

from __future__ import annotations

import numpy as np
import pytest

from marks import face, lips_at, window
from unisync.metrics.landmarks import IdentityShape, Jitter, LipCorrelation, SilenceShare
from unisync.types import Floats


def wave(num: int, hertz: float, rate: float = 25.0, begin: float = 0.0) -> Floats:
    """Return openings that go between .02 and .08 of the canvas."""
    return (0.05 + 0.03 * np.sin(2 * np.pi * hertz * (begin + np.arange(num) / rate))).astype(np.float32)


def test_correlation_is_the_planted_one() -> None:
    rng = np.random.default_rng(1)
    common, own = rng.normal(size=(2, 4000))
    truth = 0.1 + 0.01 * common
    made = 0.1 + 0.02 * (0.6 * common + 0.8 * own)
    metric = LipCorrelation()
    for start in range(0, 4000, 32):
        part = slice(start, start + 32)
        metric.update(lips_at(made[part]), lips_at(truth[part]))
    told = metric.compute()
    assert told["lip_correlation"] == pytest.approx(np.corrcoef(made, truth)[0, 1], abs=1e-4)
    assert told["lip_correlation"] == pytest.approx(0.6, abs=0.04)
    assert told["amplitude"] == pytest.approx(made.std() / truth.std(), rel=1e-3)


@pytest.mark.parametrize("rate", [23.976, 30.0])
def test_a_truth_of_another_rate_is_held_against_by_time(rate: float) -> None:
    metric = LipCorrelation()
    metric.update(lips_at(wave(75, 2)), lips_at(wave(90, 2, rate), rate))
    assert metric.compute()["lip_correlation"] > 0.99
    late = LipCorrelation()
    late.update(lips_at(wave(75, 2)), lips_at(wave(90, 2, rate, 0.25), rate))
    assert late.compute()["lip_correlation"] < -0.95


@pytest.mark.parametrize("late", [-0.08, 0.0, 0.1])
def test_a_truth_out_of_sync_is_found_to_be_late(late: float) -> None:
    metric = LipCorrelation()
    metric.update(lips_at(wave(75, 2, begin=0.2)), lips_at(wave(75, 2, begin=0.2 - late)))
    told = metric.compute()
    assert told["truth_late"] == pytest.approx(late)
    assert told["lip_correlation_shifted"] > 0.99
    assert told["lip_correlation"] == pytest.approx(np.cos(2 * np.pi * 2 * late), abs=0.05)


def test_moments_the_truth_does_not_cover_do_not_count() -> None:
    metric = LipCorrelation()
    metric.update(lips_at(wave(50, 2)), lips_at(wave(30, 2)))
    assert metric.compute()["lip_correlation"] == "30 frames of 40"


def test_still_lips_have_no_correlation() -> None:
    metric = LipCorrelation()
    metric.update(lips_at(np.full(60, 0.03)), lips_at(wave(60, 2)))
    assert metric.compute() == {"lip_correlation": "lips that do not move"}


def test_a_metric_that_needs_a_truth_says_so() -> None:
    for metric in (LipCorrelation(), SilenceShare(), IdentityShape()):
        with pytest.raises(ValueError, match="needs a truth"):
            metric.update(lips_at([0.1] * 3))


def test_silence_share_is_the_ratio_of_the_means() -> None:
    metric = SilenceShare()
    metric.update(lips_at([0.01] * 10), lips_at([0.02, 0.06] * 5))
    told = metric.compute()
    assert told["silence_share"] == pytest.approx(0.25, rel=1e-4)
    assert told["silent_opening"] == pytest.approx(0.01, rel=1e-4)
    assert told["shut_share"] == pytest.approx(0.5, rel=1e-4)


def test_silence_share_of_shut_lips_has_no_figure() -> None:
    metric = SilenceShare()
    metric.update(lips_at([0.01] * 4), lips_at([0.0] * 4))
    assert isinstance(metric.compute()["silence_share"], str)


def test_jitter_is_the_share_of_the_fast_power() -> None:
    seconds = np.arange(50) / 25
    slow, fast = np.sin(2 * np.pi * 3 * seconds), np.sin(2 * np.pi * 10 * seconds)
    metric = Jitter()
    metric.update(lips_at(0.05 + 0.02 * slow + 0.01 * fast), lips_at(0.05 + 0.02 * slow))
    told = metric.compute()
    assert told["jitter"] == pytest.approx(0.01**2 / (0.02**2 + 0.01**2), abs=0.01)
    assert told["jitter_truth"] == pytest.approx(0, abs=0.01)


def test_jitter_needs_a_stretch() -> None:
    metric = Jitter()
    metric.update(lips_at(wave(15, 3)))
    assert metric.compute()["jitter"] == "lips that do not move"


def grey(num: int) -> np.ndarray:
    return np.zeros((num, 96, 96, 3), np.uint8)


def test_shape_does_not_see_place_size_turn_nor_mouth() -> None:
    angle = 0.3
    turn = 1.2 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = (face(0.2) @ turn.T + (7, -4)).astype(np.float32)
    metric = IdentityShape()
    metric.update(window(grey(2), np.stack([moved] * 2)), window(grey(2), np.stack([face(0.0)] * 2)))
    assert metric.compute()["identity_shape"] == pytest.approx(0, abs=1e-3)


def test_shape_tells_how_far_points_lie() -> None:
    """Points that are moved at random by s px lie about s sqrt(2) px away, of eyes that are .4 x 96 px apart."""
    rng = np.random.default_rng(2)
    moved = (face() + rng.normal(0, 0.5, (468, 2))).astype(np.float32)
    metric = IdentityShape()
    metric.update(window(grey(1), moved[None]), window(grey(1), face()[None]))
    assert metric.compute()["identity_shape"] == pytest.approx(100 * 0.5 * np.sqrt(2) / (0.4 * 96), rel=0.06)
