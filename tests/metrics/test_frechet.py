"""The Fréchet distance against closed forms and a slow oracle; FID and FVD with features that are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.torch import save_file
from scipy.linalg import sqrtm
from torch import Tensor

from layouts import i3d, inception, random_state
from marks import noise, window
from unisync.metrics.frechet import Fid, Fvd, FvdRgbImagenet, Gaussian, frechet_distance

Doubles = NDArray[np.float64]


def covariance(dims: int, rank: int, seed: int) -> Doubles:
    """Return a random covariance of that rank."""
    rows = np.random.default_rng(seed).normal(size=(rank, dims))
    return np.asarray(rows.T @ rows / rank)


@pytest.mark.parametrize("dims", [1, 5, 20])
def test_of_diagonal_gaussians_it_is_the_sum_of_squares(dims: int) -> None:
    rng = np.random.default_rng(dims)
    mean, other = rng.normal(size=(2, dims))
    spread, other_spread = rng.uniform(0.1, 3, (2, dims))
    expected = ((mean - other) ** 2).sum() + ((spread - other_spread) ** 2).sum()
    found = frechet_distance(mean, np.diag(spread**2), other, np.diag(other_spread**2))
    assert found == pytest.approx(expected, rel=1e-9)


def test_of_commuting_covariances_it_is_that_of_their_eigenvalues() -> None:
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(8, 8)))
    one, other = np.random.default_rng(2).uniform(0.1, 2, (2, 8))
    zero = np.zeros(8)
    found = frechet_distance(zero, (turn * one**2) @ turn.T, zero, (turn * other**2) @ turn.T)
    assert found == pytest.approx(((one - other) ** 2).sum(), rel=1e-9)


def test_of_gaussians_in_subspaces_apart_it_is_the_sum_of_their_traces() -> None:
    one, other = np.zeros((2, 6, 6))
    one[:3, :3], other[3:, 3:] = covariance(3, 3, 3), covariance(3, 3, 4)
    found = frechet_distance(np.zeros(6), one, np.zeros(6), other)
    assert found == pytest.approx(np.trace(one) + np.trace(other), rel=1e-9)


@pytest.mark.parametrize(("rank", "other_rank"), [(12, 12), (12, 4), (3, 12), (3, 4), (1, 1)])
def test_it_is_what_the_root_of_the_product_gives(rank: int, other_rank: int) -> None:
    mean, other = np.random.default_rng(5).normal(size=(2, 12))
    a, b = covariance(12, rank, 6), covariance(12, other_rank, 7)
    shared = np.trace(sqrtm(a @ b + 1e-12 * np.eye(12))).real  # a singular matrix has no root for sqrtm
    expected = ((mean - other) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * shared
    assert frechet_distance(mean, a, other, b) == pytest.approx(expected, abs=1e-3)
    assert frechet_distance(other, b, mean, a) == pytest.approx(frechet_distance(mean, a, other, b), rel=1e-7)
    assert frechet_distance(mean, a, mean, a) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("parts", [1, 3, 50])
def test_sums_that_come_in_parts_are_numpys(parts: int) -> None:
    rows = 1e4 + np.random.default_rng(8).normal(size=(50, 4)) @ np.diag([1, 5, 0.1, 0])  # far from zero
    gaussian = Gaussian()
    for part in np.array_split(rows, parts):
        gaussian.add(part)
        gaussian.add(part[:0])
    assert gaussian.num == 50
    np.testing.assert_allclose(gaussian.mean, rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(gaussian.covariance, np.cov(rows.T), rtol=1e-6, atol=1e-9)


def test_one_row_has_no_covariance() -> None:
    gaussian = Gaussian()
    gaussian.add(np.ones((1, 3)))
    with pytest.raises(ValueError, match="1 rows"):
        _ = gaussian.covariance


def brightness(pictures: Tensor) -> Tensor:
    """See two features: the mean of red and of blue, in whatever scale pictures come."""
    return pictures.flatten(2).mean(2)[:, [0, 2]]


def test_fid_is_the_distance_of_what_the_network_sees() -> None:
    class Few(Fid):
        min_samples = 30

    rng = np.random.default_rng(9)
    made, truth = rng.integers(0, 256, (2, 60, 8, 8, 3), dtype=np.uint8)
    truth[..., 0] //= 2
    metric = Few(brightness)
    told = metric.compute()
    assert told == {"fid": "0 frames of 30", "fid_frames": 0.0}
    for start in range(0, 60, 25):
        part = slice(start, start + 25)
        metric.update(window(made[part]), window(truth[part]))
    means = [(film[..., [0, 2]] / 255).mean((1, 2)) for film in (made, truth)]
    expected = frechet_distance(means[0].mean(0), np.cov(means[0].T), means[1].mean(0), np.cov(means[1].T))
    assert metric.compute() == {"fid": pytest.approx(expected, rel=1e-4), "fid_frames": 60.0}
    with pytest.raises(ValueError, match="fid needs a truth"):
        metric.update(window(made))


def test_fvd_sees_clips_of_16_frames() -> None:
    seen: list[Tensor] = []

    def network(clips: Tensor) -> Tensor:
        seen.append(clips)
        return clips.flatten(3).mean(3)[:, 0, [0, 15]]  # red in the first and the last frame

    class Few(Fvd):
        min_samples = 2

    pixels = np.arange(40, dtype=np.uint8)[:, None, None, None] * np.ones((8, 8, 3), np.uint8)
    metric = Few(network)
    metric.update(window(pixels), window(pixels[:35] + 100))
    metric.update(window(pixels[:15]), window(pixels[:15]))
    assert [tuple(clips.shape) for clips in seen] == [(2, 3, 16, 8, 8)] * 2
    assert seen[0][1, 0, 0, 0, 0] == pytest.approx(16 / 127.5 - 1) and seen[0].max() < -0.75
    told = metric.compute()
    assert told["fvd_clips"] == 2
    assert told["fvd"] == pytest.approx(2 * (100 / 127.5) ** 2, rel=1e-5)


def test_a_folder_with_the_file_gives_the_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNISYNC_MODELS", str(tmp_path))
    assert FvdRgbImagenet().compute()["fvd_rgb_imagenet"] == "weights missing: rgb_imagenet.pt"
    assert Fvd().compute() == dict.fromkeys(("fvd", "fvd_clips"), "weights missing: i3d_torchscript.pt")
    save_file(random_state(i3d()), tmp_path / "rgb_imagenet.safetensors")
    monkeypatch.setattr(FvdRgbImagenet, "min_samples", 2)
    calm, wild = window(noise(32, 20, size=16)), window(noise(32, 60, seed=1, size=16))
    metric = FvdRgbImagenet()
    metric.update(calm, wild)
    told = metric.compute()
    assert told["fvd_rgb_imagenet_clips"] == 2 and float(told["fvd_rgb_imagenet"]) > 0


def test_inceptions_features_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNISYNC_MODELS", str(tmp_path))
    save_file(random_state(inception()), tmp_path / "pt_inception-2015-12-05-6726825d.safetensors")
    metric = Fid()
    metric.update(window(noise(2, 20, size=32)), window(noise(1, 20, size=32)))
    assert metric.features(window(noise(1, 20, size=32))).shape == (1, 2048)
    assert metric.compute() == {"fid": "1 frames of 2048", "fid_frames": 1.0}
