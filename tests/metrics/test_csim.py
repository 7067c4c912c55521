"""CSIM with embeddings that are known, frames without a face, and the real network with random weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file
from torch import Tensor

from layouts import arcface, random_state
from marks import noise, window
from unisync.metrics.csim import Csim
from unisync.types import Window


def colours(faces: Tensor) -> Tensor:
    """Embed a face as its mean colour, in [-1, 1]."""
    return faces.mean((2, 3))


def plain(*colour: int) -> Window:
    """Return two canvases of one colour."""
    return window(np.full((2, 112, 112, 3), colour, np.uint8))


def test_it_is_the_mean_cosine() -> None:
    metric = Csim(colours)
    assert metric.compute() == {"csim": "nothing was measured", "csim_no_face": 0.0}
    metric.update(plain(255, 255, 255), plain(255, 255, 255))
    assert metric.compute()["csim"] == pytest.approx(1)
    metric.update(plain(255, 255, 255), plain(0, 255, 255))  # (1, 1, 1) with (-1, 1, 1)
    assert metric.compute()["csim"] == pytest.approx((1 + 1 / 3) / 2)


def test_frames_without_a_face_are_counted_not_averaged() -> None:
    metric = Csim(colours)
    made, truth = plain(255, 255, 255), plain(255, 255, 255)
    landmarks = made.landmarks.copy()
    landmarks[1] = np.nan
    pixels = made.pixels.copy()
    pixels[1] = 0  # would have a cosine of -1
    metric.update(replace(made, landmarks=landmarks, pixels=pixels), truth)
    metric.update(truth, replace(truth, landmarks=np.full_like(truth.landmarks, np.nan)))
    assert metric.compute() == {"csim": pytest.approx(1), "csim_no_face": 3.0}


def test_the_truth_lies_beside_it() -> None:
    with pytest.raises(ValueError, match="csim needs a truth"):
        Csim(colours).update(plain(0, 0, 0))
    with pytest.raises(ValueError, match="csim: the canvases are"):
        Csim(colours).update(plain(0, 0, 0), window(np.zeros((1, 112, 112, 3), np.uint8)))


def test_a_folder_with_the_file_gives_the_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNISYNC_MODELS", str(tmp_path))
    absent = Csim()
    absent.update(plain(0, 0, 0), plain(0, 0, 0))
    assert set(absent.compute().values()) == {"weights missing: w600k_r50.pth"}
    save_file(random_state(arcface()), tmp_path / "w600k_r50.safetensors")
    metric, same = Csim(), Csim()
    one, other = window(noise(2, 30, size=112)), window(noise(2, 30, seed=1, size=112))
    metric.update(one, other)
    same.update(one, one)
    assert same.compute()["csim"] == pytest.approx(1, abs=1e-5)
    assert metric.compute()["csim"] < 0.999
