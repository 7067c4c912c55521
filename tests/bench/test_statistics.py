"""Intervals against what is known of them."""

from __future__ import annotations

import numpy as np
import pytest

from unisync.bench.statistics import FEWEST, difference, mean


def test_an_interval_is_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(1).normal(5, 2, 400)
    told = mean(list(values))
    half = 1.96 * values.std() / 20
    assert told.value == pytest.approx(values.mean())
    assert told.low == pytest.approx(values.mean() - half, abs=0.02)
    assert told.high == pytest.approx(values.mean() + half, abs=0.02)


def test_it_holds_the_truth_about_as_often_as_it_says() -> None:
    rng, held = np.random.default_rng(2), 0
    for seed in range(60):
        told = mean(list(rng.normal(0, 1, 40)), seed)
        assert told.low is not None and told.high is not None
        held += told.low <= 0 <= told.high
    assert 51 <= held <= 60


def test_the_same_seed_gives_the_same_interval() -> None:
    values = list(np.random.default_rng(0).normal(0, 1, 30))
    assert mean(values, 3) == mean(values, 3) != mean(values, 4)


def test_few_clips_have_a_mean_and_no_interval() -> None:
    assert mean([1.0, 2.0]).low is None and mean([1.0] * FEWEST).low == 1.0
    with pytest.raises(ValueError, match="no values"):
        mean([])


def test_clips_are_held_against_themselves() -> None:
    """Clips differ far more from each other than the methods do on each."""
    hard = np.linspace(0, 100, 12)
    assert difference(list(hard), list(hard + 0.1 + 0.01 * np.sin(hard))).beyond_noise
    assert not difference(list(hard), list(hard + np.tile([0.1, -0.1], 6))).beyond_noise
    assert not difference([1.0, 2.0], [3.0, 4.0]).beyond_noise
    with pytest.raises(ValueError, match="beside"):
        difference([1.0], [1.0, 2.0])
