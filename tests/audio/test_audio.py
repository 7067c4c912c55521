"""Speech features: the same by chunks as at once, at each frame's own moment, loudness out of the way, silence silent."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from unisync.audio.encoder import encode_mel, encode_speech
from unisync.audio.mel import HOP, RATE, SILENCE, log_mel
from unisync.audio.moments import at_moments, token_moments
from unisync.audio.vad import voice_activity
from unisync.nets.audio import AudioConfig, AudioEncoder
from unisync.types import Sound


def tone(hz: float, seconds: float, level: float = 0.1) -> Sound:
    moments = np.arange(int(seconds * RATE)) / RATE
    return Sound((level * np.sin(2 * np.pi * hz * moments)).astype(np.float32), RATE)


def encoder() -> AudioEncoder:
    torch.manual_seed(0)
    return AudioEncoder(AudioConfig(width=16)).eval()


def test_mel_rows_are_hundredths_of_a_second() -> None:
    samples = np.zeros(RATE, np.float32)
    samples[RATE // 2] = 1.0
    mel = log_mel(Sound(samples, RATE))
    assert abs(int(mel.mean(1).argmax()) - 50) <= 1
    assert len(mel) == RATE // HOP + 1


def test_mel_of_a_long_speech_is_worked_out_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = Sound(np.random.default_rng(0).standard_normal(RATE).astype(np.float32) * 0.1, RATE)
    whole = log_mel(sound)
    monkeypatch.setattr("unisync.audio.mel.BLOCK", 7)
    # Some processors sum a product of matrices in another order when it is narrower: the last bit may differ.
    assert torch.allclose(log_mel(sound), whole, rtol=0, atol=1e-6)


def test_mel_finds_the_band_of_a_tone() -> None:
    peaks = [int(log_mel(tone(hz, 0.5))[20].argmax()) for hz in (200, 1000, 4000)]
    assert peaks == sorted(peaks) and len(set(peaks)) == 3


def test_loudness_does_not_matter_but_silence_stays_silent() -> None:
    quiet, loud = log_mel(tone(300, 1, 0.02)), log_mel(tone(300, 1, 0.5))
    assert torch.allclose(quiet, loud, atol=1e-2)
    assert torch.allclose(log_mel(Sound(np.zeros(RATE, np.float32), RATE)), torch.tensor(SILENCE).float())


def test_other_rates_are_refused() -> None:
    with pytest.raises(ValueError, match="16000"):
        log_mel(Sound(np.zeros(100, np.float32), 8000))
    with pytest.raises(ValueError, match="16000"):
        voice_activity(Sound(np.zeros(100, np.float32), 8000))


def test_chunks_equal_the_whole_over_65_seconds() -> None:
    # Speech encoders with fixed windows glitch at every joint; ours must not have joints.
    mel = torch.randn(6500, 80, generator=torch.Generator().manual_seed(0))
    net = encoder()
    whole, lips = encode_mel(net, mel, chunk=10**9)
    parts, part_lips = encode_mel(net, mel, chunk=700)
    assert whole.shape == (3250, 16) and lips.shape == (3250, 6)
    assert torch.allclose(whole, parts, atol=1e-5) and torch.allclose(lips, part_lips, atol=1e-5)


def test_context_is_what_a_row_depends_on() -> None:
    net = encoder()
    mel = torch.zeros(600, 80)
    base, _ = encode_mel(net, mel)
    mel[300] = 5.0
    moved, _ = encode_mel(net, mel)
    rows = torch.nonzero((moved - base).abs().amax(1) > 1e-6)[:, 0]
    assert 150 - rows.min() <= net.config.context and rows.max() - 150 <= net.config.context


@pytest.mark.parametrize("rate", [24000 / 1001, 25, 30000 / 1001, 60])
def test_features_are_taken_at_the_frames_own_moment(rate: float) -> None:
    ramp = torch.arange(500, dtype=torch.float32)[:, None] / 50  # feature = its own time in seconds
    moments = torch.arange(int(rate * 9), dtype=torch.float32) / rate
    assert torch.allclose(at_moments(ramp, 50.0, moments)[:, 0], moments, atol=1e-4)
    tokens = at_moments(ramp, 50.0, token_moments(moments[20:], 9))[..., 0]
    assert tokens.shape == (len(moments) - 20, 9)
    assert torch.allclose(tokens[:, 4], moments[20:], atol=1e-4)
    assert torch.allclose(tokens.diff(dim=1), torch.tensor(0.04), atol=1e-4)


def test_silence_has_no_voice_and_is_heard_as_silence() -> None:
    quiet = Sound(np.zeros(2 * RATE, np.float32), RATE)
    assert not voice_activity(quiet).any()
    speech = encode_speech(encoder(), quiet)
    assert not speech.voice_at(torch.tensor([0.0, 0.5, 1.9, 50.0])).any()
    assert len(speech.features) >= 100


def test_noise_is_no_voice() -> None:
    noise = np.random.default_rng(0).normal(0, 0.01, 2 * RATE).astype(np.float32)
    assert voice_activity(Sound(noise, RATE)).mean() < 0.1


def test_beyond_its_end_a_speech_is_silent() -> None:
    speech = encode_speech(encoder(), tone(200, 1))
    assert speech.voice_at(torch.tensor([1.5, 100.0, -1.0])).tolist() == [0, 0, 0]


def test_finding_the_voice_leaves_torch_its_threads() -> None:
    """In a process of its own: silero-vad takes all threads but one away as it is imported, once."""
    code = (
        "import numpy, torch; from unisync.audio.vad import voice_activity; from unisync.types import Sound\n"
        "torch.set_num_threads(3); voice_activity(Sound(numpy.zeros(16000, numpy.float32), 16000))\n"
        "import threading; found = []; thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))\n"
        "thread.start(); thread.join(); print(torch.get_num_threads(), *found)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["3", "3"]
