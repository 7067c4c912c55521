"""Offsets with their sign, frame rates, sound that ends too soon, and the shipped weights on real films."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from clips import CLIPS, needs_clips
from coded import CodedExpert
from unisync.audio.mel import log_mel
from unisync.errors import UnisyncError, WeightsError
from unisync.face.detect import FaceModels
from unisync.metrics.expert import (
    ExpertSync,
    Sync,
    at_times,
    distances,
    expert_weights,
    load_expert,
    measure_sync,
)
from unisync.nets.expert import Expert, ExpertConfig
from unisync.nets.weights import save_weights
from unisync.training.canvases import cut_canvases
from unisync.types import Pixels, Sound, Window

EXPERT = CodedExpert()
RATE = 16000


def code_at(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a code in [0, 1] that never repeats."""
    return 0.5 + 0.25 * np.sin(7.3 * seconds) + 0.25 * np.sin(11.9 * seconds + 4 * np.sin(1.7 * seconds))


def film(seconds: NDArray[np.float64]) -> Pixels:
    """Return canvases as bright as the code."""
    levels = np.round(30 + 190 * code_at(seconds)).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (len(levels), 32, 32, 3)).copy()


def sound(length: float, late: float = 0.0) -> Sound:
    """Return noise as loud, in logarithms, as the code was `late` seconds ago."""
    moments = np.arange(round(length * RATE)) / RATE - late
    noise = np.random.default_rng(0).normal(0, 0.05, len(moments))
    return Sound((noise * np.exp(2.5 * (code_at(moments) - 0.5))).astype(np.float32), RATE)


@pytest.mark.parametrize("rate", [25.0, 24000 / 1001, 30.0, 50.0])
@pytest.mark.parametrize("late", [-9, 0, 6])
def test_the_offset_is_how_late_the_sound_is(rate: float, late: int) -> None:
    seconds = np.arange(round(4 * rate)) / rate
    found = measure_sync(film(seconds), seconds, sound(4.0, late / 25), EXPERT)
    assert found.offset == late and found.distance < 0.05 and found.confidence > 0.2


def test_a_stretch_in_the_middle_of_a_film_uses_the_sound_around_it() -> None:
    seconds = 2 + np.arange(10) / 25
    table = distances(EXPERT, film(seconds), seconds, log_mel(sound(4.0)))
    assert table.shape == (31, 6) and np.isfinite(table).all()
    early = distances(EXPERT, film(seconds - 2), seconds - 2, log_mel(sound(4.0)))
    assert np.isnan(early[0]).all() and np.isfinite(early[15:]).all()  # before second 0 there is no sound


def test_lips_and_sound_too_short_to_shift_are_refused() -> None:
    seconds = np.arange(15) / 25
    with pytest.raises(UnisyncError, match="a second or more"):
        measure_sync(film(seconds), seconds, sound(0.6), EXPERT)
    with pytest.raises(UnisyncError, match="only 0 windows"):
        measure_sync(film(seconds[:3]), seconds[:3], sound(4.0), EXPERT)


def test_frames_between_frames_are_mixed() -> None:
    pixels = np.zeros((3, 2, 2, 3), np.uint8)
    pixels[1] = 100
    made = at_times(pixels, np.array([0.0, 0.1, 0.2]), np.array([0.0, 0.025, 0.1, 0.15, 0.3]))
    assert made[:, 0, 0, 0].tolist() == [0, 25, 100, 50, 0]


def window(pixels: Pixels, seconds: NDArray[np.float64], heard: Sound, start: int = 0) -> Window:
    return Window(start, pixels, seconds, np.zeros((len(pixels), 468, 2), np.float32), heard)


def test_the_metric_takes_a_film_in_stretches() -> None:
    seconds, heard = np.arange(120) / 25, sound(4.8, 0.12)
    metric = ExpertSync(EXPERT)
    assert metric.compute() == {"expert_confidence": "0 windows of 5 with sound"}
    for start in range(0, 120, 40):
        own = seconds[start : start + 40]
        metric.update(window(film(own), own, heard, start))
    figures = metric.compute()
    whole = measure_sync(film(seconds), seconds, heard, EXPERT)
    assert figures["expert_offset"] == whole.offset == 3
    assert figures["expert_confidence"] == pytest.approx(whole.confidence, abs=0.15)


def test_silence_has_no_sync() -> None:
    seconds = np.arange(50) / 25
    metric = ExpertSync(EXPERT)
    metric.update(window(film(seconds), seconds, Sound(np.zeros(0, np.float32), RATE)))
    assert "with sound" in str(metric.compute()["expert_confidence"])


def test_the_shipped_weights_are_small_and_others_are_refused(tmp_path: Path) -> None:
    assert expert_weights().stat().st_size < 2_000_000
    expert = load_expert()
    assert not expert.training and not any(p.requires_grad for p in expert.parameters())
    save_weights(tmp_path / "x.safetensors", {"expert": Expert(ExpertConfig())}, {"kind": "bread"})
    with pytest.raises(WeightsError, match="'bread'"):
        load_expert(tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="no such"):
        load_expert(tmp_path / "none.safetensors")


@needs_clips
def test_real_lips_know_their_own_sound() -> None:
    assert CLIPS is not None
    models = FaceModels()
    clips = [cut_canvases(CLIPS / name, 128, models, name) for name in ("elo-640x480.mkv", "interview-524.mp4")]
    heard = [Sound(clip.samples.astype(np.float32) / np.float32(32768), RATE) for clip in clips]
    with torch.no_grad():
        own = [measure_sync(clip.pixels, clip.seconds, own) for clip, own in zip(clips, heard, strict=True)]
    short = clips[1].seconds[-1]
    kept = clips[0].seconds <= short
    foreign: list[Sync] = [
        measure_sync(clips[0].pixels[kept], clips[0].seconds[kept], heard[1]),
        measure_sync(clips[1].pixels, clips[1].seconds, heard[0]),
    ]
    assert all(abs(sync.offset) <= 3 for sync in own)
    assert min(sync.confidence for sync in own) > max(sync.confidence for sync in foreign)
    late = measure_sync(clips[0].pixels, clips[0].seconds - 5 / 25, heard[0])
    assert late.offset - own[0].offset == 5
