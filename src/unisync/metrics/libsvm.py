"""Regression by a model in libsvm's text format, as published with BRISQUE: read and evaluated, never trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unisync.errors import WeightsError

Vector = NDArray[np.float64]
KINDS = ("epsilon_svr", "nu_svr")


@dataclass(frozen=True, eq=False)
class Regression:
    """Support vector regression with a radial basis function, f(x) = Σ weights · exp(-gamma |x - vectors|²) - rho.

    weights: (N,).  vectors: (N, D).
    """

    gamma: float
    rho: float
    weights: Vector
    vectors: Vector

    def __call__(self, features: Vector) -> float:
        """Return the value at scaled features (D,)."""
        away = ((self.vectors - features) ** 2).sum(1)
        return float(self.weights @ np.exp(-self.gamma * away) - self.rho)


@dataclass(frozen=True, eq=False)
class Scaling:
    """What svm-scale does to features: each one's [low, high] (D,) becomes [lower, upper]; what lies outside stays so."""

    lower: float
    upper: float
    low: Vector
    high: Vector

    def __call__(self, features: Vector) -> Vector:
        """Return features (D,) as the model was shown them."""
        share = (features - self.low) / (self.high - self.low)
        return self.lower + (self.upper - self.lower) * share


def read_regression(path: Path, num_features: int) -> Regression:
    """Return the model of a file. Raises WeightsError if it is missing, damaged, or of another kind or size."""
    head, found, body = _text(path).partition("SV\n")
    facts = {name: value for name, _, value in (line.partition(" ") for line in head.splitlines())}
    kind, kernel = facts.get("svm_type", "").strip(), facts.get("kernel_type", "").strip()
    if kind not in KINDS or kernel != "rbf":
        raise WeightsError(
            f"{path}: needed is a libsvm model of type {' or '.join(KINDS)} and kernel rbf, "
            f"this one's are {kind or 'unknown'} and {kernel or 'unknown'}"
        )
    try:
        rows = [line.split() for line in body.splitlines() if line.strip()]
        vectors = np.zeros((len(rows), num_features))
        for i, row in enumerate(rows):
            for index, value in (entry.split(":") for entry in row[1:]):
                vectors[i, _column(index)] = float(value)
        weights = np.array([float(row[0]) for row in rows])
        if not found or not rows or len(rows) != int(facts["total_sv"]):
            raise ValueError(f"{len(rows)} support vectors of {facts['total_sv']}")
        return Regression(float(facts["gamma"]), float(facts["rho"]), weights, vectors)
    except (ValueError, KeyError, IndexError) as error:
        raise WeightsError(
            f"{path}: the libsvm model is damaged or not of {num_features} features ({error}); get it again"
        ) from error


def read_scaling(path: Path, num_features: int) -> Scaling:
    """Return what a file of svm-scale's -s says. Raises WeightsError if it is missing, damaged or of another size."""
    lines = _text(path).splitlines()
    try:
        if lines[0].strip() != "x":
            raise ValueError("it does not begin with x")
        lower, upper = map(float, lines[1].split())
        limits = np.full((num_features, 2), np.nan)
        for index, *ends in (line.split() for line in lines[2:] if line.strip()):
            limits[_column(index)] = [float(end) for end in ends]
        if not (limits[:, 0] < limits[:, 1]).all():
            raise ValueError("a feature without a range")
        return Scaling(lower, upper, limits[:, 0], limits[:, 1])
    except (ValueError, IndexError) as error:
        raise WeightsError(
            f"{path}: this is not svm-scale's file of the ranges of {num_features} features ({error}); get it again"
        ) from error


def _column(index: str) -> int:
    """Return the column of a feature that libsvm counts from 1."""
    if int(index) < 1:
        raise ValueError(f"a feature numbered {index}")
    return int(index) - 1


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path}: the file cannot be read as text ({error}); get it again") from error
