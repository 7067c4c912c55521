"""What every metric behind the door must keep to."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from marks import face, noise, window
from unisync.metrics.base import Better, Metric, Value
from unisync.registry import load, names

PERFECT = {
    "brisque": "weights missing: allmodel",
    "csim": "weights missing: w600k_r50.pth",
    "fid": "weights missing: pt_inception-2015-12-05-6726825d.pth",
    "flicker": 1.0,
    "fvd": "weights missing: i3d_torchscript.pt",
    "fvd_rgb_imagenet": "weights missing: rgb_imagenet.pt",
    "hyperiqa": "pyiqa is not installed",
    "identity_shape": 0.0,
    "lip_correlation": 1.0,
    "lmd_mesh": 0.0,
    "lse_c_frame": "weights missing: syncnet_v2.model",
    "lse_c_tracked": "weights missing: syncnet_v2.model",
    "mouth_likeness": "no error",
    "niqe": "weights missing: niqe_pris_params.npz",
    "niqe_ours": "canvases under 192 px hold fewer than four blocks",
    "outside_mask": "no error",
    "psnr": "no error",
    "seam": 1.0,
    "sharpness": 1.0,
    "silence_share": 1.0,
    "ssim": 1.0,
}
"""What a film that is its own truth gets, on canvases of 96 px and in a folder without models."""
BESIDE = {"jitter": "jitter_truth", "lip_leak": "lip_leak_source"}
"""Figures that stand beside the truth's own."""


def metric(name: str) -> Metric:
    loaded: Metric = load("metric", name)()
    return loaded


@pytest.mark.parametrize("name", [name for name in names("metric") if "expert" not in name])
def test_a_film_is_as_good_as_itself(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNISYNC_MODELS", str(tmp_path))
    judge = metric(name)
    first: Value = next(iter(judge.compute().values()))
    assert isinstance(first, str), "nothing was shown yet"
    marks = np.stack([face(0.05 + 0.03 * np.sin(i)) for i in range(60)])
    film = window(noise(60, 20), marks)
    judge.update(film, film)
    told = judge.compute()
    assert next(iter(told)) == name == judge.name and judge.unit and judge.better in Better.__args__
    expected = PERFECT[name] if name in PERFECT else told[BESIDE[name]]
    assert told[name] == (expected if isinstance(expected, str) else pytest.approx(expected, abs=1e-6))


def test_the_page_on_adding_one_shows_one_that_works() -> None:
    page = Path(__file__).parents[2] / "docs" / "add-a-metric.md"
    code = re.search(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    assert code
    room: dict[str, type[Metric]] = {}
    exec(code[1], room)
    darkness = room["Darkness"]()
    source = noise(2, 20)
    made = source.copy()
    source[:, :, ::4], made[:, :, ::2] = 0, 0
    darkness.update(window(made), window(source))
    assert darkness.compute()["darkness"] == pytest.approx(2, rel=0.1)
