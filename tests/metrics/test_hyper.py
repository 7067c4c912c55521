"""HyperIQA is pyiqa's affair: what is asked of it, and what is said where it is not there or fails."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from marks import face, noise, window
from unisync.metrics.hyper import MISSING, HyperIqa

FILM = window(noise(3, 1), np.stack([face()] * 3))


def test_frames_are_shown_as_pyiqa_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[torch.Tensor] = []

    def score(picture: torch.Tensor) -> torch.Tensor:
        shown.append(picture)
        return picture.mean()[None]

    monkeypatch.setitem(sys.modules, "pyiqa", SimpleNamespace(create_metric=lambda name: {"hyperiqa": score}[name]))
    metric = HyperIqa()
    metric.update(FILM)
    assert metric.compute() == {"hyperiqa": pytest.approx(100 * FILM.pixels.mean() / 255, abs=1e-3)}
    assert [p.shape for p in shown] == [(1, 3, *FILM.pixels.shape[1:3])] * 3


def test_without_pyiqa_the_figure_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    metric = HyperIqa()
    metric.update(FILM)
    assert metric.compute() == {"hyperiqa": MISSING}


def test_what_pyiqa_cannot_load_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str) -> None:
        raise OSError("no network")

    monkeypatch.setitem(sys.modules, "pyiqa", SimpleNamespace(create_metric=fails))
    metric = HyperIqa()
    metric.update(FILM)
    assert metric.compute() == {"hyperiqa": "pyiqa cannot load it: no network"}
