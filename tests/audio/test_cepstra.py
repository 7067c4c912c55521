"""Cepstra against a slow oracle: the formulas of python_speech_features 0.6, one row, filter and sample at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from unisync.audio import cepstra as module
from unisync.audio.cepstra import HOP, WINDOW, cepstra
from unisync.types import Floats


def oracle(levels: NDArray[np.int64], row: int) -> list[float]:
    """Return one row of cepstra of 16-bit sound."""
    sharp = [float(levels[0])] + [levels[i] - 0.97 * levels[i - 1] for i in range(1, len(levels))]
    frame = [sharp[i] if i < len(sharp) else 0.0 for i in range(row * 160, row * 160 + 400)]
    power = []
    for k in range(257):
        turn = np.exp(-2j * np.pi * k * np.arange(400) / 512)
        power.append(abs((np.array(frame) * turn).sum()) ** 2 / 512)
    top = 2595 * math.log10(1 + 8000 / 700)
    corners = [math.floor(513 * 700 * (10 ** (top * i / 27 / 2595) - 1) / 16000) for i in range(28)]
    logs = []
    for j in range(26):
        low, peak, high = corners[j : j + 3]
        band = sum(power[i] * (i - low) / (peak - low) for i in range(low, peak))
        band += sum(power[i] * (high - i) / (high - peak) for i in range(peak, high))
        logs.append(math.log(band or np.finfo(float).eps))
    made = []
    for n in range(13):
        total = sum(logs[j] * math.cos(math.pi * n * (2 * j + 1) / 52) for j in range(26))
        scale = math.sqrt(1 / 26) if n == 0 else math.sqrt(2 / 26)
        made.append(total * scale * (1 + 11 * math.sin(math.pi * n / 22)))
    made[0] = math.log(sum(power) or np.finfo(float).eps)
    return made


def speech(num: int, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    tone = 0.2 * np.sin(2 * np.pi * 220 * np.arange(num) / 16000) * np.sin(np.arange(num) / 900)
    return (tone + rng.normal(0, 0.02, num)).astype(np.float32)


def test_rows_are_the_oracles() -> None:
    samples = speech(2000)
    levels = np.round(samples.astype(np.float64) * 32768).astype(np.int64)
    made = cepstra(samples, 12)  # of the last rows a part lies behind the sound's end
    assert made.shape == (12, 13)
    for row in (0, 1, 7, 10, 11):
        np.testing.assert_allclose(made[row], oracle(levels, row), rtol=1e-4, atol=1e-4)


def test_silence_has_no_infinite_logarithm() -> None:
    made = cepstra(np.zeros(500, np.float32), 3)
    np.testing.assert_allclose(made[1], oracle(np.zeros(500, np.int64), 1), rtol=1e-5, atol=1e-4)
    assert cepstra(np.zeros(0, np.float32), 2).shape == (2, 13)


def test_too_loud_samples_are_cut_as_16_bits_cut_them() -> None:
    np.testing.assert_array_equal(cepstra(4 * speech(800) + 1.5, 4), cepstra(np.clip(4 * speech(800) + 1.5, -1, 1), 4))


@pytest.mark.parametrize("block", [1, 3, 100])
def test_blocks_and_parts_give_what_the_whole_gives(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = speech(4000)
    whole = cepstra(samples, 20)
    monkeypatch.setattr(module, "BLOCK", block)
    np.testing.assert_array_equal(cepstra(samples, 20), whole)
    first = 7 * HOP
    part = cepstra(samples[first : first + 4 * HOP + WINDOW], 5, float(samples[first - 1]))
    np.testing.assert_allclose(part, whole[7:12], rtol=1e-5, atol=1e-5)
