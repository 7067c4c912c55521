"""How natural a picture looks without a truth beside it: NIQE (Mittal 2013) and BRISQUE (Mittal 2012), our own code.

Both look at luma that is freed of its local mean and contrast (MSCN), at the shape of its distribution and of the products
of neighbours. NIQE measures how far these lie from those of pristine pictures, BRISQUE asks a regression taught by people.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat
from scipy.io.matlab import MatReadError
from scipy.special import gamma

from unisync.errors import WeightsError
from unisync.metrics.base import NOTHING_SEEN, Better, Value
from unisync.metrics.libsvm import Regression, Scaling, read_regression, read_scaling
from unisync.models import find
from unisync.types import Pixels, Window

Plane = NDArray[np.float64]
Score = Callable[[Plane], Value]
NIQE_FILES = ("niqe_pris_params.npz", "modelparameters.mat")
"""The published Gaussian as it goes about: what it is called in BasicSR, and in the authors' release."""
BRISQUE_FILES = ("allmodel", "allrange")
"""The regression and the features' ranges of the authors' release."""
BLOCK = 96
"""Side of NIQE's blocks, px."""
NUM_FEATURES = 36
FLAT = "pictures without texture"
WINDOW, SIGMA = 7, 7 / 6
"""Side and spread of the Gaussian that means are taken over, px."""
SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Neighbours whose product is looked at, rows and columns: beside, below, and on both diagonals."""
HALVING = np.array([-0.0234375, -0.0703125, 0.2265625, 0.8671875, 0.8671875, 0.2265625, -0.0703125, -0.0234375]) / 2
"""Half the size by a cubic kernel of twice its width: what MATLAB's imresize(x, .5) does."""


def luma(pixels: Pixels) -> Plane:
    """Return rounded BT.601 luma, float64 (H, W) of 0 to 255, of uint8 (H, W, 3): MATLAB's rgb2gray."""
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.float64)


def halved(plane: Plane) -> Plane:
    """Return a plane of half the size, rounded up."""
    small = cv2.sepFilter2D(plane, cv2.CV_64F, HALVING, HALVING, anchor=(3, 3), borderType=cv2.BORDER_REFLECT)
    return np.asarray(small[::2, ::2], np.float64)


def mscn(plane: Plane, border: int) -> tuple[Plane, Plane]:
    """Return luma less its local mean, by its local spread + 1, and that spread.

    border: what stands beyond the edge, as OpenCV names it: NIQE repeats the last pixel, BRISQUE puts 0 there.
    """
    kernel = cv2.getGaussianKernel(WINDOW, SIGMA)
    mean = cv2.sepFilter2D(plane, cv2.CV_64F, kernel, kernel, borderType=border)
    square = cv2.sepFilter2D(plane * plane, cv2.CV_64F, kernel, kernel, borderType=border)
    spread = np.sqrt(np.abs(square - mean * mean))
    return (plane - mean) / (spread + 1), spread


@dataclass(frozen=True, eq=False)
class Fit:
    """Asymmetric generalised Gaussians fitted by their moments, one a row of values, all (N,).

    shape: 2 is a Gaussian, 1 a Laplacian.  left, right: root mean squares of what lies on each side of 0.
    A row without values on both sides of 0 has no fit: nan.
    """

    shape: Plane
    left: Plane
    right: Plane

    @property
    def width(self) -> Plane:
        """A side's scale β as a share of its root mean square."""
        return np.asarray(np.sqrt(gamma(1 / self.shape) / gamma(3 / self.shape)))

    @property
    def mean(self) -> Plane:
        """The distribution's mean."""
        share = gamma(2 / self.shape) / gamma(1 / self.shape)
        return np.asarray((self.right - self.left) * self.width * share)


def fit_asymmetric(values: Plane) -> Fit:
    """Return the fit of each row of values (N, M): Lasmar 2009, equations 4 to 9."""
    below, above = np.minimum(values, 0), np.maximum(values, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        left = np.sqrt((below**2).sum(1) / (values < 0).sum(1))
        right = np.sqrt((above**2).sum(1) / (values > 0).sum(1))
        lean = left / right
        moments = np.abs(values).mean(1) ** 2 / (values**2).mean(1)
    return Fit(_shape(moments * (lean**3 + 1) * (lean + 1) / (lean**2 + 1) ** 2), left, right)


def fit_symmetric(values: Plane) -> tuple[Plane, Plane]:
    """Return shape and variance of a generalised Gaussian about 0 for each row of values (N, M): Sharifi 1995."""
    variance = (values**2).mean(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _shape(np.abs(values).mean(1) ** 2 / variance), variance


def _shape(moments: Plane) -> Plane:
    """Return the shape in [.2, 10] of which mean(|x|)² / mean(x²) is that."""
    shapes, table = _shapes()
    return np.asarray(np.interp(moments, table, shapes))


@cache
def _shapes() -> tuple[Plane, Plane]:
    shapes = np.arange(0.2, 10.0005, 0.001)
    return shapes, gamma(2 / shapes) ** 2 / (gamma(1 / shapes) * gamma(3 / shapes))


def _products(blocks: Plane) -> list[Fit]:
    """Return the fits of the products of neighbours in blocks (N, H, W), beyond whose edge they begin anew."""
    rolled = (np.roll(blocks, shift, axis=(1, 2)) for shift in SHIFTS)
    return [fit_asymmetric((blocks * other).reshape(len(blocks), -1)) for other in rolled]


def brisque_features(plane: Plane) -> Plane:
    """Return BRISQUE's features (36,) of luma (H, W): 18 at its own size, 18 at half of it."""
    rows = []
    for scaled in (plane, halved(plane)):
        coefficients = mscn(scaled, cv2.BORDER_CONSTANT)[0][None]
        rows += [*fit_symmetric(coefficients.reshape(1, -1))]
        for fit in _products(coefficients):
            rows += [fit.shape, fit.mean, fit.left**2, fit.right**2]
    return np.concatenate(rows)


def niqe_features(plane: Plane) -> tuple[Plane, Plane]:
    """Return NIQE's features (N, 36) of the 96×96 blocks of luma (H, W), and how sharp each block is, (N,).

    Blocks do not overlap; what is left over on the right and below is not looked at. Sharp is what has much contrast.
    """
    height, width = (BLOCK * (side // BLOCK) for side in plane.shape)
    scaled = plane[:height, :width]
    columns: list[Plane] = []
    sharpness = np.zeros(0)
    for side in (BLOCK, BLOCK // 2):
        coefficients, spread = mscn(scaled, cv2.BORDER_REPLICATE)
        blocks = _blocks(coefficients, side)
        whole = fit_asymmetric(blocks.reshape(len(blocks), -1))
        columns += [whole.shape, (whole.left + whole.right) / 2 * whole.width]
        for fit in _products(blocks):
            columns += [fit.shape, fit.mean, fit.left * fit.width, fit.right * fit.width]
        if side == BLOCK:
            sharpness = _blocks(spread, side).mean((1, 2))
            scaled = halved(scaled)
    return np.stack(columns, axis=1), sharpness


def _blocks(plane: Plane, side: int) -> Plane:
    """Return the blocks (N, side, side) of a plane (H, W) of whole blocks."""
    rows, columns = plane.shape[0] // side, plane.shape[1] // side
    return plane.reshape(rows, side, columns, side).swapaxes(1, 2).reshape(-1, side, side)


@dataclass(frozen=True, eq=False)
class Pristine:
    """The Gaussian of NIQE's features in pictures without fault.  mean: (36,).  covariance: (36, 36)."""

    mean: Plane
    covariance: Plane

    def distance(self, features: Plane) -> float:
        """Return how far the features (N, 36) of a picture's blocks lie off, N at least 2: Mittal 2013, equation 10."""
        away = self.mean - features.mean(0)
        inverse = np.linalg.pinv((self.covariance + np.cov(features, rowvar=False)) / 2)
        return float(np.sqrt(away @ inverse @ away))


def our_pristine() -> Path:
    """Return where the Gaussian lies that tools/fit_niqe.py fitted."""
    return Path(str(files("unisync") / "data" / "niqe-ours.npz"))


def read_pristine(path: Path) -> Pristine:
    """Return the Gaussian of a file, BasicSR's .npz or MATLAB's .mat. Raises WeightsError if there is none in it."""
    names = ("mu_prisparam", "cov_prisparam") if path.suffix == ".mat" else ("mu_pris_param", "cov_pris_param")
    try:
        mean, covariance = (np.asarray(value, np.float64) for value in _arrays(path, names))
        pristine = Pristine(mean.reshape(NUM_FEATURES), covariance.reshape(NUM_FEATURES, NUM_FEATURES))
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile, MatReadError, NotImplementedError) as error:
        raise WeightsError(f"{path}: NIQE's Gaussian cannot be read from it ({error}); get it again") from error
    if not (np.isfinite(pristine.mean).all() and np.isfinite(pristine.covariance).all()):
        raise WeightsError(f"{path}: NIQE's Gaussian in it has values that are no numbers; get it again")
    return pristine


def _arrays(path: Path, names: tuple[str, str]) -> list[Any]:
    if path.suffix == ".mat":
        table: Mapping[str, Any] = loadmat(path)
        return [table[name] for name in names]
    with np.load(path) as room:
        return [room[name] for name in names]


class _PerFrame:
    """Mean of a figure over the frames that have one. A truth is not looked at: it gets figures of its own."""

    name: str

    def __init__(self, score: Score | str) -> None:
        """score: the figure of a canvas's luma, or the reason why it has none; in place of it, why no canvas has one."""
        self._score = score
        self._sum, self._num = 0.0, 0
        self._why_not = NOTHING_SEEN if callable(score) else score

    def update(self, made: Window, truth: Window | None = None) -> None:
        if not callable(self._score):
            return
        for pixels in made.pixels:
            value = self._score(luma(pixels))
            if isinstance(value, str):
                self._why_not = value
            else:
                self._sum += value
                self._num += 1

    def compute(self) -> dict[str, Value]:
        if not self._num:
            return {self.name: self._why_not}
        return {self.name: self._sum / self._num, f"{self.name}_frames": float(self._num)}


class Niqe(_PerFrame):
    """NIQE against the published Gaussian, in a file that the user has: comparable with what papers call NIQE."""

    name = "niqe"
    unit = "distance to pristine pictures"
    better: Better = "lower"

    def __init__(self, parameters: Path | None = None) -> None:
        """parameters: the Gaussian's file; without it one of NIQE_FILES in the folder of models is."""
        path = parameters or next((path for path in map(find, NIQE_FILES) if path), None)
        super().__init__(_distance_to(read_pristine(path)) if path else f"weights missing: {NIQE_FILES[0]}")


class NiqeOurs(_PerFrame):
    """NIQE against our own Gaussian, of a handful of pictures: never to be called NIQE."""

    name = "niqe_ours"
    unit = "distance to our pristine pictures"
    better: Better = "lower"

    def __init__(self) -> None:
        super().__init__(_distance_to(read_pristine(our_pristine())))


class Brisque(_PerFrame):
    """BRISQUE by the published regression, in files that the user has."""

    name = "brisque"
    unit = "about 0 (good) to 100"
    better: Better = "lower"

    def __init__(self, folder: Path | None = None) -> None:
        """folder: where the two BRISQUE_FILES lie; without it the folder of models."""
        model, ranges = (folder / name if folder else find(name) for name in BRISQUE_FILES)
        if model is None or ranges is None:
            super().__init__(f"weights missing: {BRISQUE_FILES[0] if model is None else BRISQUE_FILES[1]}")
            return
        super().__init__(_asked(read_regression(model, NUM_FEATURES), read_scaling(ranges, NUM_FEATURES)))


def _distance_to(pristine: Pristine) -> Score:
    def score(plane: Plane) -> Value:
        if min(plane.shape) < 2 * BLOCK:
            return f"canvases under {2 * BLOCK} px hold fewer than four blocks"
        features, _ = niqe_features(plane)
        features = features[np.isfinite(features).all(1)]
        return pristine.distance(features) if len(features) > 1 else FLAT

    return score


def _asked(regression: Regression, scaling: Scaling) -> Score:
    def score(plane: Plane) -> Value:
        features = brisque_features(plane)
        return regression(scaling(features)) if np.isfinite(features).all() else FLAT

    return score
