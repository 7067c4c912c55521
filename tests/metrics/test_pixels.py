"""Figures on pixels, against canvases whose blur, noise and errors are planted."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.signal import convolve2d

from marks import face, noise, window
from unisync.mask import mouth_mask
from unisync.metrics.pixels import Flicker, MouthLikeness, OutsideMask, Seam, Sharpness, lips_region

LAPLACIAN = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], float)
ROUNDING = 20 / 12
"""Variance that rounding to whole numbers adds to a Laplacian."""


@pytest.mark.parametrize("sigma", [0.6, 0.8, 1.0])
def test_a_planted_blur_lowers_sharpness_by_the_predicted_ratio(sigma: float) -> None:
    """A filter's output on white noise has the variance of the noise times the sum of the filter's squares."""
    sharp = noise(8, 30)
    soft = np.stack([cv2.GaussianBlur(image, (15, 15), sigma) for image in sharp])
    kernel = cv2.getGaussianKernel(15, sigma)
    through = convolve2d(LAPLACIAN, kernel @ kernel.T)
    predicted = (900 * (through**2).sum() + ROUNDING) / (900 * (LAPLACIAN**2).sum() + ROUNDING)
    metric = Sharpness()
    metric.update(window(soft), window(sharp))
    assert metric.compute()["sharpness"] == pytest.approx(predicted, rel=0.06)


def test_sharpness_looks_at_the_lips_only_and_the_seam_at_the_rim_only() -> None:
    sharp = noise(4, 30)
    mask = mouth_mask(face(), sharp.shape[1])
    rim = (mask > 0) & (mask < 1)
    far = ~cv2.dilate(rim.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    away_from_rim = sharp.copy()
    away_from_rim[:, far] = 128
    seam, sharpness = Seam(), Sharpness()
    for metric in (seam, sharpness):
        metric.update(window(away_from_rim), window(sharp))
    assert seam.compute()["seam"] == pytest.approx(1)
    assert sharpness.compute()["sharpness"] == pytest.approx(0)


def test_an_edge_along_the_mask_is_a_seam() -> None:
    source = noise(2, 3)
    mask = mouth_mask(face(), source.shape[1])
    brighter = source.astype(int) + 20
    soft = (mask[..., None] * brighter + (1 - mask[..., None]) * source).round().astype(np.uint8)
    hard = np.where((mask > 0.5)[..., None], brighter, source).astype(np.uint8)
    seams = []
    for made in (soft, hard):
        metric = Seam()
        metric.update(window(made), window(source))
        seams.append(metric.compute()["seam"])
    assert seams[0] == pytest.approx(1, abs=0.1) and seams[1] > 1.5


def test_planted_noise_raises_flicker_by_the_ratio_of_its_spreads() -> None:
    metric = Flicker()
    metric.update(window(noise(20, 12, seed=1)), window(noise(20, 4, seed=2)))
    assert metric.compute()["flicker"] == pytest.approx(3, rel=0.03)


def test_a_still_source_has_no_flicker_to_compare_with() -> None:
    metric = Flicker()
    metric.update(window(noise(3, 9)), window(np.repeat(noise(1, 9), 3, axis=0)))
    assert metric.compute() == {"flicker": "a source that does not move"}


def test_psnr_of_a_planted_error() -> None:
    source = noise(3, 20)
    inside = lips_region(face(), source.shape[1])
    made = source.copy()
    made[:, inside] += 5
    outside, mouth = OutsideMask(), MouthLikeness()
    for metric in (outside, mouth):
        metric.update(window(made), window(source))
    assert mouth.compute()["mouth_likeness"] == pytest.approx(20 * np.log10(255 / 5))
    assert outside.compute() == {"outside_mask": "no error", "outside_worst": 0.0}


def test_one_wrong_sample_outside_is_found() -> None:
    source = noise(2, 20)
    made = source.copy()
    made[1, 0, 0, 2] += 7
    metric = OutsideMask()
    metric.update(window(made), window(source))
    told = metric.compute()
    assert told["outside_worst"] == 7.0 and told["outside_mask"] > 60


def test_canvases_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="the canvases are"):
        Sharpness().update(window(noise(2, 5)), window(noise(2, 5, size=64)))
