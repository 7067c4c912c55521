"""Likeness to the truth: SSIM as scikit-image has it, PSNR and the lips' distance in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
from skimage.metrics import structural_similarity

from marks import LIPS, face, noise, window
from unisync.metrics.fidelity import INNER_LIPS, OUTER_LIPS, MeshLmd, Psnr, Ssim, ssim
from unisync.types import Pixels


def grey(pixels: Pixels) -> Pixels:
    """Return a picture of one plane as one of three alike."""
    return np.repeat(pixels[..., None], 3, axis=2)


@pytest.mark.parametrize("spread", [0, 3, 25])
def test_ssim_is_wangs(spread: float) -> None:
    truth = skimage.data.camera()[100:300, 150:350]
    made = np.clip(truth + np.random.default_rng(0).normal(0, spread, truth.shape), 0, 255).astype(np.uint8)
    expected = structural_similarity(
        made, truth, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    assert ssim(grey(made), grey(truth)) == pytest.approx(expected, abs=1e-9)


def test_ssim_is_the_mean_of_the_frames() -> None:
    truth = noise(3, 40)
    made = truth.copy()
    made[1:] //= 2
    metric = Ssim()
    metric.update(window(made[:2]), window(truth[:2]))
    metric.update(window(made[2:]), window(truth[2:]))
    expected = (1 + ssim(made[1], truth[1]) + ssim(made[2], truth[2])) / 3
    assert metric.compute()["ssim"] == pytest.approx(expected, rel=1e-12) and expected < 0.99


def test_psnr_is_of_the_mean_square_of_all_frames() -> None:
    truth = noise(2, 10)
    made = truth.copy()
    made[1] += 6
    metric = Psnr()
    metric.update(window(made), window(truth))
    assert metric.compute()["psnr"] == pytest.approx(10 * np.log10(255**2 / 18))


@pytest.mark.parametrize("size", [64, 256])
def test_lmd_is_in_pixels_of_a_canvas_of_256(size: int) -> None:
    """The same shift of the lips, as a share of the face, is the same figure whatever the canvas."""
    truth = np.stack([face(size=size)] * 2)
    made = truth.copy()
    made[0, list(OUTER_LIPS)] += np.float32(0.03 * size), np.float32(0.04 * size)
    pixels = noise(2, 5, size=size)
    metric = MeshLmd()
    metric.update(window(pixels, made), window(pixels, truth))
    assert metric.compute()["lmd_mesh"] == pytest.approx(0.05 * 256 * 12 / 20 / 2, rel=1e-4)


def test_lmd_looks_at_the_lips_alone() -> None:
    assert len({*OUTER_LIPS, *INNER_LIPS}) == 20 and {*OUTER_LIPS} <= {*LIPS} and not {*INNER_LIPS} & {*LIPS}
    made = face()[None].copy()
    made[:, [i for i in range(468) if i not in OUTER_LIPS + INNER_LIPS]] += 9
    metric = MeshLmd()
    metric.update(window(noise(1, 5), made), window(noise(1, 5)))
    assert metric.compute()["lmd_mesh"] == 0


@pytest.mark.parametrize("kind", [Ssim, Psnr, MeshLmd])
def test_they_need_a_truth_on_the_same_canvases(kind: type[Ssim | Psnr | MeshLmd]) -> None:
    with pytest.raises(ValueError, match="needs a truth"):
        kind().update(window(noise(1, 5)))
    with pytest.raises(ValueError, match="canvases"):
        kind().update(window(noise(1, 5)), window(noise(1, 5, size=64)))
