"""How sure a mean is, and whether two differ: bootstrap over clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 10_000
PARTS = 10
"""Draws are made in so many goes, to spare memory."""
LEVEL = 0.95
FEWEST = 3
"""Clips from which on an interval is worth the name: of one or two, resampling knows nothing."""


@dataclass(frozen=True)
class Mean:
    """A mean over num clips; low and high are None where there are too few for an interval."""

    value: float
    num: int
    low: float | None = None
    high: float | None = None

    @property
    def beyond_noise(self) -> bool:
        """Whether the interval does not hold 0."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def mean(values: Sequence[float], seed: int = 0) -> Mean:
    """Return the mean with its 95 % percentile bootstrap interval. Raises ValueError without values."""
    if not values:
        raise ValueError("no values")
    value = float(np.mean(values))
    if len(values) < FEWEST:
        return Mean(value, len(values))
    low, high = _interval(_drawn(np.array(values), seed))
    return Mean(value, len(values), low, high)


def difference(first: Sequence[float], second: Sequence[float], seed: int = 0) -> Mean:
    """Return how far the second lies above the first, clip by clip. Raises ValueError unless they are equally many."""
    if len(first) != len(second):
        raise ValueError(f"{len(first)} values beside {len(second)}")
    return mean([new - old for old, new in zip(first, second, strict=True)], seed)


def _drawn(values: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Return the means of DRAWS samples with replacement."""
    rng = np.random.default_rng(seed)
    parts = (values[rng.integers(0, len(values), (DRAWS // PARTS, len(values)))].mean(1) for _ in range(PARTS))
    return np.concatenate(list(parts))


def _interval(means: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
