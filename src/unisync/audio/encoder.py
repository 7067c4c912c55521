"""Speech -> what the backbone is told at each frame: audio tokens and lip parameters, shut in silence."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from unisync.audio.mel import SILENCE, log_mel
from unisync.audio.moments import at_moments, token_moments
from unisync.audio.vad import voice_activity
from unisync.nets.audio import AudioEncoder
from unisync.types import Sound

CHUNK = 500
"""Feature rows encoded at a time (ten seconds), so that memory stays flat; chunks overlap by the encoder's context."""
FADE_SECONDS = 0.08


@dataclass(frozen=True, eq=False)
class SpeechFeatures:
    """One speech, encoded. features: (N, D).  lips: (N, 6) standardised.  voiced: (M,) in [0, 1], 100 a second."""

    features: Tensor
    lips: Tensor
    voiced: Tensor
    rate: float

    def tokens(self, seconds: Tensor, num: int) -> Tensor:
        """Return audio tokens (F, num, D) for frames at times seconds (F,)."""
        return at_moments(self.features, self.rate, token_moments(seconds, num))

    def lips_at(self, seconds: Tensor) -> Tensor:
        """Return lip parameters (F, 6), standardised, at times seconds (F,)."""
        return at_moments(self.lips, self.rate, seconds)

    @cached_property
    def mean_lips(self) -> Tensor:
        """The mean (6,) of the lip parameters over the voiced parts."""
        index = (torch.arange(len(self.lips)) / self.rate * 100).long().clamp_max(len(self.voiced) - 1)
        weight = self.voiced[index, None] + 1e-6
        return (self.lips * weight).sum(0) / weight.sum(0)

    def voice_at(self, seconds: Tensor) -> Tensor:
        """Return (F,) in [0, 1]: 1 where somebody speaks, 0 in silence and beyond the speech's end."""
        inside = (seconds >= 0) & (seconds <= (len(self.voiced) - 1) / 100)
        return at_moments(self.voiced[:, None], 100.0, seconds)[..., 0] * inside


@torch.no_grad()
def encode_speech(encoder: AudioEncoder, sound: Sound) -> SpeechFeatures:
    """Return the features of a 16 kHz speech, on the CPU. What is not voice is heard as digital silence."""
    encoder.eval()
    mel = log_mel(sound)
    voiced = torch.from_numpy(voice_activity(sound))
    fade = max(1, round(FADE_SECONDS * 100))
    soft = torch.nn.functional.avg_pool1d(voiced[None], 2 * fade + 1, 1, fade, count_include_pad=False)[0]
    gate = torch.nn.functional.pad(soft, (0, max(0, len(mel) - len(soft))))[: len(mel), None]
    mel = mel * gate + SILENCE * (1 - gate)
    features, lips = encode_mel(encoder, mel.to(encoder.lip_mean.device))
    return SpeechFeatures(features.cpu(), lips.cpu(), soft, encoder.config.rate)


@torch.no_grad()
def encode_mel(encoder: AudioEncoder, mel: Tensor, chunk: int = CHUNK) -> tuple[Tensor, Tensor]:
    """Return features (N, D) and lips (N, 6) of mel (2N, 80), chunk by chunk; equal to encoding it at once."""
    context = encoder.config.context
    num = (len(mel) + 1) // 2
    parts = []
    for start in range(0, num, chunk):
        stop = min(start + chunk, num)
        low, high = max(0, start - context), min(num, stop + context)
        features, lips = encoder(mel[None, 2 * low : 2 * high])
        parts.append((features[0, start - low : stop - low], lips[0, start - low : stop - low]))
    return torch.cat([f for f, _ in parts]), torch.cat([p for _, p in parts])
