"""FID and FVD: how far what a network sees in the made film is from what it sees in the truth, as Gaussians."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unisync.metrics.base import Better, Value
from unisync.metrics.learned import Learned, as_pictures
from unisync.types import Window

Doubles = NDArray[np.float64]


class Gaussian:
    """Mean and covariance of rows that come in parts, kept as sums about the running mean."""

    def __init__(self) -> None:
        self.num = 0
        self.mean: Doubles = np.zeros(0)
        self._spread: Doubles = np.zeros((0, 0))

    def add(self, rows: NDArray[np.floating]) -> None:
        """Take rows (N, D)."""
        if not len(rows):
            return
        values = rows.astype(np.float64)
        if not self.num:
            self.mean, self._spread = np.zeros(values.shape[1]), np.zeros((values.shape[1],) * 2)
        mean, total = values.mean(0), self.num + len(values)
        away, step = values - mean, mean - self.mean
        self._spread += away.T @ away + np.outer(step, step) * (self.num * len(values) / total)
        self.mean, self.num = self.mean + step * (len(values) / total), total

    @property
    def covariance(self) -> Doubles:
        """The unbiased estimate (D, D). Raises ValueError of fewer than two rows."""
        if self.num < 2:
            raise ValueError(f"{self.num} rows have no covariance")
        return self._spread / (self.num - 1)


def frechet_distance(mean: Doubles, covariance: Doubles, other_mean: Doubles, other_covariance: Doubles) -> float:
    """Return |m - n|² + tr(A + B - 2 (A B)^½) of two Gaussians, of any rank.

    A^½ B A^½ has the eigenvalues of A B and is symmetric, so that no imaginary parts come in, as they do by sqrtm.
    """
    root = _root(covariance)
    shared = np.linalg.eigvalsh(root @ other_covariance @ root)
    step = mean - other_mean
    trace = np.trace(covariance) + np.trace(other_covariance) - 2 * np.sqrt(shared.clip(0)).sum()
    return float(step @ step + max(trace, 0.0))


def _root(matrix: Doubles) -> Doubles:
    """Return the symmetric root of a covariance."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.sqrt(values.clip(0))) @ vectors.T)


class _Frechet(Learned):
    """Fréchet distance of features; a film without enough of them gets no figure, which would be too large."""

    better: Better = "lower"
    view = "frame"
    sample: str
    min_samples: int

    def __init__(self, network: object = None) -> None:
        super().__init__(network)
        self._made, self._truth = Gaussian(), Gaussian()

    def take(self, made: Window, truth: Window | None) -> None:
        """Take a stretch; the truth need not be of the same length nor the same moments."""
        if truth is None:
            raise ValueError(f"{self.name} needs a truth to hold the film against")
        self._made.add(self.features(made))
        self._truth.add(self.features(truth))

    def features(self, window: Window) -> NDArray[np.float32]:
        """Return what the network sees in a stretch, (N, D)."""
        raise NotImplementedError

    def measured(self) -> dict[str, Value]:
        name, samples = self.figures
        num = min(self._made.num, self._truth.num)
        told: dict[str, Value] = {name: f"{num} {self.sample} of {self.min_samples}", samples: float(num)}
        if num >= self.min_samples:
            one, other = self._made, self._truth
            told[name] = frechet_distance(one.mean, one.covariance, other.mean, other.covariance)
        return told


class Fid(_Frechet):
    """Fréchet Inception Distance of whole frames, as pytorch-fid has it."""

    name = "fid"
    unit = "Inception features"
    weights = "pt_inception-2015-12-05-6726825d.pth"
    size = 299
    figures = ("fid", "fid_frames")
    sample = "frames"
    min_samples = 2048

    def features(self, window: Window) -> NDArray[np.float32]:
        found: NDArray[np.float32] = self.network(as_pictures(window.pixels) / 255).cpu().numpy()
        return found


class Fvd(_Frechet):
    """Fréchet Video Distance of clips of 16 whole frames, as StyleGAN-V has it; frames that make no clip do not count."""

    name = "fvd"
    unit = "I3D logits"
    weights = "i3d_torchscript.pt"
    size = 224
    figures = ("fvd", "fvd_clips")
    sample = "clips"
    min_samples = 256
    length = 16

    def features(self, window: Window) -> NDArray[np.float32]:
        num = len(window) // self.length
        if not num:
            return np.zeros((0, 0), np.float32)
        pictures = as_pictures(window.pixels[: num * self.length]) / 127.5 - 1
        clips = pictures.reshape(num, self.length, *pictures.shape[1:]).transpose(1, 2)
        found: NDArray[np.float32] = self.network(clips).cpu().numpy()
        return found


class FvdRgbImagenet(Fvd):
    """The same by the weights that pytorch-i3d converted, which are others than StyleGAN-V's; figures differ by some 10 %."""

    name = "fvd_rgb_imagenet"
    weights = "rgb_imagenet.pt"
    figures = ("fvd_rgb_imagenet", "fvd_rgb_imagenet_clips")
