"""LSE-C and LSE-D: planted offsets, a slow oracle of the published loop, runs that end, and the real network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from layouts import SYNCNET, random_state
from marks import face
from unisync.audio.cepstra import cepstra
from unisync.metrics.lse import LseFrame, LseTracked
from unisync.types import Pixels, Sound, Window

RATE = 16000


class Coded:
    """A SyncNet that needs no training: brightness of a window's middle frame and loudness at its moment are one code."""

    def see(self, pictures: Tensor) -> Tensor:
        return turned(pictures.mean((1, 2, 3))[2:-2] / 255)

    def hear(self, windows: Tensor) -> Tensor:
        energy = windows[:, 0, 5:9].mean(1)  # logarithms of power, of 16-bit levels, at the middle frame's moment
        return turned((energy - 14.9) / 6)


def turned(code: Tensor) -> Tensor:
    """Return points (N, 2) on a circle for codes (N,) in [0, 1]."""
    return 5 * torch.stack([(4 * code).cos(), (4 * code).sin()], 1)


def code_at(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a code in [0, 1] that never repeats."""
    return 0.5 + 0.25 * np.sin(7.3 * seconds) + 0.25 * np.sin(11.9 * seconds + 4 * np.sin(1.7 * seconds))


def film(seconds: NDArray[np.float64]) -> Pixels:
    """Return canvases as bright as the code."""
    levels = np.round(255 * code_at(seconds)).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (len(levels), 8, 8, 3)).copy()


def sound(length: float, late: float = 0.0) -> Sound:
    """Return noise as loud, in logarithms, as the code was `late` seconds ago."""
    moments = np.arange(round(length * RATE)) / RATE - late
    draws = np.random.default_rng(0).normal(0, 0.012, len(moments))
    return Sound((draws * np.exp(3 * (code_at(moments) - 0.5))).astype(np.float32), RATE)


def window(seconds: NDArray[np.float64], heard: Sound, start: int = 0, pixels: Pixels | None = None) -> Window:
    pixels = film(seconds) if pixels is None else pixels
    return Window(start, pixels, seconds, np.stack([face(size=8)] * len(seconds)), heard)


def show(
    metric: LseFrame | LseTracked, seconds: NDArray[np.float64], heard: Sound, length: int, start: int = 0
) -> None:
    """Show a film in windows of so many frames."""
    for at in range(0, len(seconds), length):
        metric.update(window(seconds[at : at + length], heard, start + at))


def oracle(network: Coded, pixels: Pixels, heard: Sound) -> tuple[float, float, int]:
    """Return confidence, distance and offset of a film of 25 fps as the published loop has them, window by window."""
    pictures = torch.from_numpy(pixels[..., ::-1].copy()).permute(0, 3, 1, 2).float()
    table = torch.from_numpy(cepstra(heard.samples, len(heard.samples) // 160 - 1)).T
    num = min(len(pixels), len(heard.samples) // 640) - 5
    seen = [network.see(pictures[i : i + 5])[0] for i in range(num)]
    spoken = [network.hear(table[None, :, 4 * i : 4 * i + 20])[0] for i in range(num)]
    silent = [torch.zeros_like(spoken[0])] * 15
    padded = [*silent, *spoken, *silent]
    means = []
    for shift in range(31):
        means.append(np.mean([float(torch.dist(seen[i], padded[i + shift] - 1e-6)) for i in range(num)]))
    return float(np.median(means) - min(means)), float(min(means)), 15 - int(np.argmin(means))


@pytest.mark.parametrize("length", [5, 17, 200])
@pytest.mark.parametrize("seconds_of_sound", [4.0, 9.0, 2.51])
def test_windows_of_any_length_give_what_the_published_loop_gives(length: int, seconds_of_sound: float) -> None:
    network, seconds = Coded(), np.arange(100) / 25
    heard = sound(seconds_of_sound, 0.12)
    metric = LseFrame(network)
    show(metric, seconds, heard, length)
    confidence, distance, offset = oracle(network, film(seconds), heard)
    told = metric.compute()
    assert told["lse_c_frame"] == pytest.approx(confidence, abs=1e-4)
    assert told["lse_d_frame"] == pytest.approx(distance, abs=1e-4)
    assert told["lse_offset_frame"] == offset == -3


@pytest.mark.parametrize("rate", [25.0, 24000 / 1001, 30.0, 50.0])
@pytest.mark.parametrize("late", [-9, 0, 6])
def test_planted_offsets_are_found_with_the_published_sign(rate: float, late: int) -> None:
    seconds = 1.5 + np.arange(round(6 * rate)) / rate  # a shot that does not begin with the film
    metric = LseTracked(Coded())
    show(metric, seconds, sound(9, late / 25), 32, start=77)
    told = metric.compute()
    assert told["lse_offset_tracked"] == -late
    assert told["lse_d_tracked"] < 2 < told["lse_c_tracked"]


def test_a_figure_can_be_asked_for_at_any_time() -> None:
    seconds, heard = np.arange(60) / 25, sound(3)
    asked, silent = LseFrame(Coded()), LseFrame(Coded())
    for start in range(0, 60, 20):
        asked.update(window(seconds[start : start + 20], heard, start))
        asked.compute()
        silent.update(window(seconds[start : start + 20], heard, start))
    assert asked.compute() == silent.compute()


def test_runs_count_alike_however_long_they_are() -> None:
    heard, other = sound(12), sound(12, 0.08)
    apart = []
    for seconds, spoken in ((np.arange(120) / 25, heard), (5 + np.arange(170) / 25, other)):
        metric = LseTracked(Coded())
        show(metric, seconds, spoken, 32)
        apart.append(metric.compute())
    joined = LseTracked(Coded())
    show(joined, np.arange(120) / 25, heard, 32)
    joined.begin()  # the next face begins in the very frame in which the last ended
    show(joined, 5 + np.arange(170) / 25, other, 32, start=120)
    for name in ("lse_c_tracked", "lse_d_tracked"):
        assert joined.compute()[name] == pytest.approx(np.mean([told[name] for told in apart]))


def test_a_gap_ends_a_run_and_short_runs_say_nothing() -> None:
    heard = sound(12)
    metric = LseTracked(Coded())
    show(metric, np.arange(100) / 25, heard, 25)
    show(metric, 5 + np.arange(100) / 25, heard, 25, start=125)
    nothing = "nobody was followed, and heard, for 101 frames of 25 a second"
    assert metric.compute() == dict.fromkeys(metric.figures, nothing)
    show(metric, 9 + np.arange(1) / 25, heard, 25, start=225)  # one frame more of the second run
    assert isinstance(metric.compute()["lse_c_tracked"], float)


def test_the_network_sees_levels_blue_first_and_each_run_of_five_frames_once() -> None:
    seen: list[Tensor] = []

    class Noting(Coded):
        def see(self, pictures: Tensor) -> Tensor:
            seen.append(pictures)
            return super().see(pictures)

    pixels = np.zeros((60, 8, 8, 3), np.uint8)
    pixels[..., 0], pixels[..., 2] = 200, np.arange(60)[:, None, None]
    LseFrame(Noting()).update(window(np.arange(60) / 25, sound(3), pixels=pixels))
    blue = [pictures[:, 0, 0, 0].tolist() for pictures in seen]
    assert blue == [list(range(36)), list(range(32, 59))]  # windows 0 to 31, then 32 to 54
    assert all((pictures[:, 2] == 200).all() for pictures in seen)


def test_silence_and_films_without_sound_have_no_sync() -> None:
    seconds = np.arange(120) / 25
    metric = LseFrame(Coded())
    show(metric, seconds, Sound(np.zeros(0, np.float32), RATE), 32)
    assert "heard" in str(metric.compute()["lse_c_frame"])
    with pytest.raises(ValueError, match="16000 Hz"):
        metric.update(window(seconds, Sound(np.zeros(48000, np.float32), 48000)))


def test_a_folder_with_the_file_gives_the_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNISYNC_MODELS", str(tmp_path))
    seconds = np.arange(8) / 25
    pixels = np.random.default_rng(1).integers(0, 256, (8, 224, 224, 3), dtype=np.uint8)
    shown = window(seconds, sound(1), pixels=pixels)
    absent = LseFrame()
    absent.update(shown)
    assert set(absent.compute().values()) == {"weights missing: syncnet_v2.model"}
    save_file(random_state(SYNCNET), tmp_path / "syncnet_v2.safetensors")
    metric = LseFrame()
    metric.update(shown)
    told = metric.compute()
    assert all(isinstance(told[name], float) for name in metric.figures)
    assert told["lse_d_frame"] > 0 and told["lse_c_frame"] >= 0
