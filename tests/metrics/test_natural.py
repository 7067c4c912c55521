"""Fits against samples of known distributions, filters against slow ones, and figures that rise with what spoils a picture."""

from __future__ import annotations

import sys
from collections.abc import Callable
from math import exp
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray
from scipy.io import savemat
from scipy.ndimage import correlate
from scipy.optimize import brentq
from scipy.special import gamma

from marks import noise, window
from unisync.errors import WeightsError
from unisync.metrics.natural import (
    BLOCK,
    BRISQUE_FILES,
    FLAT,
    NIQE_FILES,
    Brisque,
    Niqe,
    NiqeOurs,
    brisque_features,
    fit_asymmetric,
    fit_symmetric,
    halved,
    luma,
    mscn,
    niqe_features,
    our_pristine,
    read_pristine,
)
from unisync.models import VARIABLE
from unisync.types import Pixels

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

CAT: Pixels = np.ascontiguousarray(skimage.data.chelsea()[40:280, 60:300])
"""A picture that our Gaussian was not fitted to."""


@pytest.fixture(autouse=True)
def _nothing_lies_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none"))


def drawn(shape: float, left: float, right: float, num: int = 400_000) -> NDArray[np.float64]:
    """Return samples of an asymmetric generalised Gaussian of scales `left` and `right`."""
    rng = np.random.default_rng(7)
    size = rng.gamma(1 / shape, size=num) ** (1 / shape)
    return np.where(rng.random(num) < left / (left + right), -left * size, right * size)


@pytest.mark.parametrize("shape", [0.6, 1.0, 2.0, 4.0])
def test_a_symmetric_fit_finds_what_samples_are_of(shape: float) -> None:
    found, variance = fit_symmetric(drawn(shape, 1.5, 1.5)[None])
    assert found[0] == pytest.approx(shape, rel=0.03)
    assert variance[0] == pytest.approx(1.5**2 * gamma(3 / shape) / gamma(1 / shape), rel=0.03)


@pytest.mark.parametrize("shape", [0.6, 1.0, 2.0])
@pytest.mark.parametrize(("left", "right"), [(1.0, 1.0), (0.5, 2.0), (3.0, 1.0)])
def test_an_asymmetric_fit_finds_what_samples_are_of(shape: float, left: float, right: float) -> None:
    samples = drawn(shape, left, right)
    fit = fit_asymmetric(samples[None])
    assert fit.shape[0] == pytest.approx(shape, rel=0.05)
    assert (fit.left * fit.width)[0] == pytest.approx(left, rel=0.06)
    assert (fit.right * fit.width)[0] == pytest.approx(right, rel=0.06)
    assert fit.mean[0] == pytest.approx(samples.mean(), abs=0.03 * (left + right) * gamma(2 / shape) / gamma(1 / shape))


def test_rows_are_fitted_each_by_itself_and_flat_ones_not_at_all() -> None:
    rows = np.stack([drawn(1, 1, 1, 1000), drawn(2, 1, 3, 1000), np.zeros(1000), np.ones(1000)])
    fit = fit_asymmetric(rows)
    for i in range(2):
        alone = fit_asymmetric(rows[i : i + 1])
        assert (fit.shape[i], fit.left[i], fit.right[i]) == (alone.shape[0], alone.left[0], alone.right[0])
    assert np.isnan(fit.shape[2:]).all() and np.isnan(fit_symmetric(rows)[0][2])


@pytest.mark.parametrize(("border", "mode"), [(cv2.BORDER_REPLICATE, "nearest"), (cv2.BORDER_CONSTANT, "constant")])
def test_coefficients_are_freed_of_mean_and_spread(border: int, mode: str) -> None:
    plane = luma(CAT)[:60, :50]
    away = np.arange(-3, 4)
    kernel = np.exp(-(away[:, None] ** 2 + away**2) / (2 * (7 / 6) ** 2))
    kernel /= kernel.sum()
    mean = correlate(plane, kernel, mode=mode)
    spread = np.sqrt(np.abs(correlate(plane**2, kernel, mode=mode) - mean**2))
    made = mscn(plane, border)
    np.testing.assert_allclose(made[1], spread, atol=1e-6)
    np.testing.assert_allclose(made[0], (plane - mean) / (spread + 1), atol=1e-6)


@pytest.mark.parametrize("length", [12, 13])
def test_halving_is_a_cubic_kernel_of_twice_its_width(length: int) -> None:
    row = np.random.default_rng(0).uniform(0, 255, length)

    def cubic(x: float) -> float:
        x = abs(x)
        return 1.5 * x**3 - 2.5 * x**2 + 1 if x <= 1 else -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2

    def mirrored(i: int) -> float:
        i = -1 - i if i < 0 else i
        return float(row[2 * length - 1 - i if i >= length else i])

    slow = [
        sum(mirrored(i) * cubic((i - 2 * j - 0.5) / 2) / 2 for i in range(2 * j - 3, 2 * j + 5))
        for j in range((length + 1) // 2)
    ]
    np.testing.assert_allclose(halved(np.tile(row, (20, 1)))[5], slow, atol=1e-9)


def test_features_of_a_block_are_those_of_the_paper() -> None:
    """One block by scalar formulas: shape by root finding, scales from the root mean squares of both sides."""
    plane = luma(CAT)[: 2 * BLOCK, : 2 * BLOCK]
    block = mscn(plane, cv2.BORDER_REPLICATE)[0][:BLOCK, BLOCK:]
    expected: list[float] = []
    for values in (block, *(block * np.roll(block, by, (0, 1)) for by in ((0, 1), (1, 0), (1, 1), (1, -1)))):
        left, right = (float(np.sqrt((side**2).mean())) for side in (values[values < 0], values[values > 0]))
        lean = left / right
        moments = np.abs(values).mean() ** 2 / (values**2).mean()
        moments *= (lean**3 + 1) * (lean + 1) / (lean**2 + 1) ** 2
        shape = brentq(lambda a, m=moments: gamma(2 / a) ** 2 / gamma(1 / a) / gamma(3 / a) - m, 0.2, 10)
        left, right = (side * np.sqrt(gamma(1 / shape) / gamma(3 / shape)) for side in (left, right))
        scales = (right - left) * gamma(2 / shape) / gamma(1 / shape), left, right
        expected += [shape, *(((left + right) / 2,) if values is block else scales)]
    features, sharpness = niqe_features(plane)
    assert features.shape == (4, 36) and sharpness.shape == (4,)
    np.testing.assert_allclose(features[1, :18], expected, rtol=1e-4, atol=1e-6)


def spoilt(pixels: Pixels, by: str, much: float) -> Pixels:
    """Return a picture blurred, made noisy or compressed."""
    if by == "blur":
        return np.asarray(cv2.GaussianBlur(pixels, (0, 0), much), np.uint8)
    if by == "noise":
        return np.clip(np.round(pixels + np.random.default_rng(0).normal(0, much, pixels.shape)), 0, 255).astype(
            np.uint8
        )
    code = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(much)])[1]
    return np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR), np.uint8)


def figure(pixels: Pixels) -> float:
    metric = NiqeOurs()
    metric.update(window(pixels[None]))
    value = metric.compute()["niqe_ours"]
    assert isinstance(value, float)
    return value


@pytest.mark.parametrize(("by", "steps"), [("blur", (0.7, 1.2, 2.5)), ("noise", (6, 15, 40)), ("jpeg", (60, 30, 10))])
def test_niqe_rises_with_what_spoils_a_picture(by: str, steps: tuple[float, ...]) -> None:
    figures = [figure(CAT), *(figure(spoilt(CAT, by, much)) for much in steps)]
    assert all(low * 1.05 < high for low, high in zip(figures, figures[1:], strict=False)), figures


def test_the_shipped_gaussian_is_what_the_script_fits() -> None:
    from fit_niqe import ASIDE, PICTURES, fit, picture

    fitted, num = fit(map(picture, PICTURES))
    shipped = read_pristine(our_pristine())
    assert num > 600 and ASIDE not in PICTURES
    np.testing.assert_allclose(fitted.mean, shipped.mean, atol=0.005)
    np.testing.assert_allclose(fitted.covariance, shipped.covariance, atol=0.005)
    assert our_pristine().stat().st_size < 16_000


def test_the_distance_is_mahalanobis() -> None:
    """Features of no spread, one step off along one axis of a diagonal Gaussian: 1 / sqrt(variance / 2)."""
    shipped = read_pristine(our_pristine())
    diagonal = type(shipped)(shipped.mean, np.diag(np.full(36, 0.5)))
    features = np.tile(shipped.mean, (3, 1))
    features[:, 4] += 2
    assert diagonal.distance(features) == pytest.approx(2 / np.sqrt(0.5 / 2))


def test_a_film_is_the_mean_of_its_frames_in_whatever_windows_it_comes() -> None:
    film = np.stack([CAT, spoilt(CAT, "blur", 2), spoilt(CAT, "noise", 20)])
    metric = NiqeOurs()
    metric.update(window(film[:2]))
    metric.update(window(film[2:]), window(film[:1]))
    told = metric.compute()
    assert told == {"niqe_ours": pytest.approx(np.mean([figure(p) for p in film])), "niqe_ours_frames": 3.0}


def test_canvases_that_are_small_or_flat_have_no_figure_and_do_not_count() -> None:
    metric = NiqeOurs()
    metric.update(window(noise(1, 20, size=191)))
    assert metric.compute() == {"niqe_ours": "canvases under 192 px hold fewer than four blocks"}
    metric.update(window(np.full((1, 240, 240, 3), 90, np.uint8)))
    assert metric.compute() == {"niqe_ours": FLAT}
    metric.update(window(CAT[None]))
    assert metric.compute() == {"niqe_ours": pytest.approx(figure(CAT)), "niqe_ours_frames": 1.0}


def publish(folder: Path, name: str) -> Path:
    """Write our Gaussian as a published one comes."""
    with np.load(our_pristine()) as room:
        mean, covariance = room["mu_pris_param"], room["cov_pris_param"]
    if name.endswith(".mat"):
        savemat(folder / name, {"mu_prisparam": mean[None], "cov_prisparam": covariance})
    else:
        np.savez(folder / name, mu_pris_param=mean[None], cov_pris_param=covariance)
    return folder / name


@pytest.mark.parametrize("name", NIQE_FILES)
def test_the_users_gaussian_is_found_and_makes_it_niqe(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = publish(tmp_path, name)
    assert Niqe().compute() == {"niqe": "weights missing: niqe_pris_params.npz"}
    named = Niqe(path)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    found = Niqe()
    for metric in (named, found):
        metric.update(window(CAT[None]))
        assert metric.compute()["niqe"] == pytest.approx(figure(CAT))


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def rename(path: Path) -> None:
    if path.suffix == ".mat":
        savemat(path, {"other": 1})
    else:
        np.savez(path, other=1)


@pytest.mark.parametrize("harm", [damage, empty, rename, Path.unlink])
@pytest.mark.parametrize("name", NIQE_FILES)
def test_a_gaussian_that_cannot_be_read_is_named(name: str, harm: Callable[[Path], None], tmp_path: Path) -> None:
    path = publish(tmp_path, name)
    harm(path)
    with pytest.raises(WeightsError, match=name):
        Niqe(path)


def test_brisque_is_the_regression_of_the_scaled_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Brisque().compute() == {"brisque": "weights missing: allmodel"}
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    head = "svm_type epsilon_svr\nkernel_type rbf\ngamma 0.05\nnr_class 2\ntotal_sv 2\nrho -20\nSV\n"
    (tmp_path / BRISQUE_FILES[0]).write_text(head + "30 1:0.5 36:-0.25\n-10 2:1\n")
    assert Brisque().compute() == {"brisque": "weights missing: allrange"}
    ranges = "".join(f"{i} -2 {3 + i}\n" for i in range(1, 37))
    (tmp_path / BRISQUE_FILES[1]).write_text("x\n-1 1\n" + ranges)
    metric = Brisque()
    assert metric.compute() == {"brisque": "nothing was measured"}
    metric.update(window(CAT[None]))
    scaled = [2 * (value + 2) / (6 + i) - 1 for i, value in enumerate(brisque_features(luma(CAT)))]
    first, second = np.zeros(36), np.zeros(36)
    first[0], first[35], second[1] = 0.5, -0.25, 1
    away = [float(((np.array(scaled) - vector) ** 2).sum()) for vector in (first, second)]
    expected = 30 * exp(-0.05 * away[0]) - 10 * exp(-0.05 * away[1]) + 20
    assert metric.compute() == {"brisque": pytest.approx(expected), "brisque_frames": 1.0}


def test_brisques_features_are_in_the_order_of_the_release() -> None:
    """Shape and variance of the coefficients; of each product of neighbours shape, mean and the sides' mean squares."""
    plane = luma(CAT)
    features = brisque_features(plane)
    for scale, scaled in enumerate((plane, halved(plane))):
        coefficients = mscn(scaled, cv2.BORDER_CONSTANT)[0]
        rows = features[18 * scale :][:18]
        assert rows[1] == pytest.approx((coefficients**2).mean())
        for i, shift in enumerate(((0, 1), (1, 0), (1, 1), (-1, 1))):
            product = coefficients * np.roll(coefficients, shift, (0, 1))
            assert rows[4 + 4 * i] == pytest.approx((product[product < 0] ** 2).mean())
            assert rows[5 + 4 * i] == pytest.approx((product[product > 0] ** 2).mean())


def test_white_noise_has_gaussian_coefficients() -> None:
    features = brisque_features(np.random.default_rng(1).normal(128, 20, (256, 256)))
    assert features[0] > 2 and features[2] == pytest.approx(features[6], abs=0.05)
