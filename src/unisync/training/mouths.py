"""Mouths as the sync expert's training draws them: at 25 fps, small, grey, moved and relit by chance."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unisync.audio.mel import RATE, log_mel
from unisync.metrics.expert import at_times
from unisync.mouth import lip_parameters
from unisync.nets.expert import RATE as FPS
from unisync.nets.expert import ROWS_PER_FRAME, ExpertConfig, mouths_of
from unisync.training.audio import augmented
from unisync.training.dataset import Canvases, read_samples
from unisync.training.loop import Batch
from unisync.types import Sound

MARGIN = 1.25
"""Training keeps this much more than the mouth's box, so that augmentation can move it without showing a border."""


@dataclass(frozen=True)
class Draw:
    """How batches are drawn. frames: of a clip in a batch; its windows are each other's hard negatives."""

    batch: int = 40
    frames: int = 24
    speaker_power: float = 0.5
    """A speaker with twice the time is drawn 2 ** this times as often."""


@dataclass(frozen=True, eq=False)
class Utterance:
    """A clip at 25 fps. mouths: uint8 (T, h, w) grey, with a margin.  mel: (4 T, 80).  lips: float32 (T, 6)."""

    key: str
    speaker: str
    mouths: Tensor
    mel: Tensor
    lips: Tensor

    def __len__(self) -> int:
        return len(self.mouths)


def load_utterances(dataset: Path, part: str, config: ExpertConfig, frames: int) -> list[Utterance]:
    """Return the clips of a part that have sound and `frames` frames or more."""
    samples = (s for s in read_samples(dataset, part) if len(s.canvases.samples) > RATE // 2)
    found = (utterance_of(s.key, s.canvases, config) for s in samples)
    return [u for u in found if len(u) >= frames]


def utterance_of(key: str, canvases: Canvases, config: ExpertConfig) -> Utterance:
    """Return a clip as training draws from it: at 25 fps, grey and small."""
    mel = log_mel(Sound(canvases.samples.astype(np.float32) / np.float32(32768), RATE))
    num = min(int(canvases.seconds[-1] * FPS + 1e-6) + 1, len(mel) // ROWS_PER_FRAME)
    moments = np.arange(num) / FPS
    pixels = torch.from_numpy(at_times(canvases.pixels, canvases.seconds, moments))
    small = mouths_of(pixels.permute(0, 3, 1, 2).float() / 255, config, MARGIN)
    lips = lip_parameters(canvases.landmarks, canvases.pixels.shape[1])
    table = np.stack([np.interp(moments, canvases.seconds, column) for column in lips.T], axis=1)
    return Utterance(
        key=key,
        speaker=canvases.speaker,
        mouths=(small * 255).round().to(torch.uint8),
        mel=mel[: ROWS_PER_FRAME * num],
        lips=torch.from_numpy(table.astype(np.float32)),
    )


class Sampler:
    """Draws augmented batches; speakers who talk much are drawn less often than their share."""

    def __init__(self, utterances: list[Utterance], draw: Draw, config: ExpertConfig) -> None:
        self.utterances, self.how, self.config = utterances, draw, config
        self.rnd = random.Random(0)
        total: dict[str, int] = {}
        for u in utterances:
            total[u.speaker] = total.get(u.speaker, 0) + len(u)
        self.weights = [len(u) / total[u.speaker] ** (1 - draw.speaker_power) for u in utterances]
        lips = torch.cat([u.lips for u in utterances])
        self.mean, self.std = lips.mean(0), lips.std(0) + 1e-6

    def draw(self) -> Batch:
        """Return the next batch: mouths (B, T, h, w) in [0, 1], mel (B, 4 T, 80), lips (B, T, 6) standardised."""
        mouths, mels, lips = [], [], []
        num = self.how.frames
        for u in self.rnd.choices(self.utterances, self.weights, k=self.how.batch):
            start = self.rnd.randint(0, len(u) - num)
            mouths.append(u.mouths[start : start + num])
            mels.append(augmented(u.mel[ROWS_PER_FRAME * start : ROWS_PER_FRAME * (start + num)], self.rnd))
            lips.append((u.lips[start : start + num] - self.mean) / self.std)
        return {
            "mouths": augmented_mouths(torch.stack(mouths), self.config),
            "mel": torch.stack(mels),
            "lips": torch.stack(lips),
        }


def augmented_mouths(mouths: Tensor, config: ExpertConfig) -> Tensor:
    """Return (B, T, h, w) in [0, 1] of uint8 mouths with a margin (B, T, H, W): moved, turned, relit, blurred, noised.

    Everything but the noise and a little tremble is the same for all frames of a clip, as a camera's would be.
    """
    num, frames = mouths.shape[:2]

    def spread(size: float) -> Tensor:
        return torch.randn(num, 1) * size + torch.randn(num, frames) * (size / 12)

    mirror = torch.where(torch.rand(num, 1) < 0.5, -1.0, 1.0)
    zoom, turn, x, y = torch.exp(spread(0.07)), spread(0.08), spread(0.06), spread(0.06)
    stretch = torch.exp(torch.randn(num, 1) * 0.06)
    height, width = config.height, config.width
    aspect = width / height
    cos, sin = zoom * turn.cos() / MARGIN, zoom * turn.sin() / MARGIN
    rows = [
        torch.stack([cos * mirror * stretch, -sin / aspect, x], -1),
        torch.stack([sin * mirror * stretch * aspect, cos, y], -1),
    ]
    theta = torch.stack(rows, -2).flatten(0, 1)
    grid = F.affine_grid(theta, [num * frames, 1, height, width], align_corners=False)
    moved = F.grid_sample(mouths.flatten(0, 1)[:, None].float() / 255, grid, padding_mode="border", align_corners=False)
    x_ = moved.view(num, frames, height, width)
    gamma, gain, lift = (torch.randn(num, 1, 1, 1) * size for size in (0.2, 0.2, 0.1))
    x_ = x_.clamp(0, 1) ** torch.exp(gamma) * torch.exp(gain) + lift
    soft = int(num * 0.4)
    shrink = float(torch.empty(1).uniform_(1.3, 3.5))
    small = F.interpolate(x_[:soft], (round(height / shrink), round(width / shrink)), mode="bilinear", antialias=True)
    x_ = torch.cat([F.interpolate(small, (height, width), mode="bilinear"), x_[soft:]])
    x_ = x_ + torch.randn_like(x_) * (torch.rand(num, 1, 1, 1) ** 2 * 0.08)
    return x_.clamp(0, 1)


def centred(mouths: Tensor, config: ExpertConfig) -> Tensor:
    """Return (..., h, w) in [0, 1], the middle of uint8 mouths with a margin: what inference sees."""
    top, left = ((mouths.shape[-2] - config.height) // 2, (mouths.shape[-1] - config.width) // 2)
    return mouths[..., top : top + config.height, left : left + config.width].float() / 255
