"""The sync expert: do these lips make this sound? Mouths and mel bands in one space, where what belongs together is near.

It sees pixels only, of our aligned canvases, and is differentiable in them: a meter, a filter and a loss in one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RATE = 25
"""Frames a second that the expert sees; films of another rate are resampled by time."""
ROWS_PER_FRAME = 4
"""Mel rows (100 a second) per frame."""
MOUTH = (0.20, 0.44, 0.80, 0.89)
"""Left, top, right, bottom of what the expert sees, in canvas sides."""


@dataclass(frozen=True)
class ExpertConfig:
    """frames: in a window.  height, width: of the grey mouth.  Widths are channels."""

    frames: int = 5
    height: int = 48
    width: int = 64
    bands: int = 80
    visual: tuple[int, ...] = (24, 48, 96, 128)
    audio: int = 128
    embedding: int = 128
    dropout: float = 0.2

    @property
    def rows(self) -> int:
        """Mel rows in a window."""
        return self.frames * ROWS_PER_FRAME


class Expert(nn.Module):
    """Two convolutional towers whose unit embeddings are compared by cosine; dense over time, one window per frame."""

    def __init__(self, config: ExpertConfig) -> None:
        super().__init__()
        self.config = config
        self.seeing = SeeingTower(config)
        self.hearing = HearingTower(config)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def see(self, mouths: Tensor) -> Tensor:
        """Return unit embeddings (B, T - 4, D) of grey mouths (B, T, h, w) in [0, 1]; row i is of frames i to i + 4."""
        return F.normalize(self.seeing(mouths).float(), dim=-1)

    def hear(self, mel: Tensor) -> Tensor:
        """Return unit embeddings (B, T - 4, D) of mel (B, 4 T, 80); row i is of mel rows 4 i to 4 i + 19."""
        return F.normalize(self.hearing(mel).float(), dim=-1)

    @property
    def scale(self) -> Tensor:
        """One over the temperature."""
        return self.log_scale.exp().clamp_max(100.0)


class SeeingTower(nn.Module):
    """A window's frames are the channels of one picture, so that the first layer sees motion."""

    def __init__(self, config: ExpertConfig) -> None:
        super().__init__()
        self.frames, self.dropout = config.frames, config.dropout
        layers: list[nn.Module] = []
        before, kernel = config.frames, 5
        for after in config.visual:
            layers += [
                nn.Conv2d(before, after, kernel, 2, kernel // 2, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(True),
            ]
            before, kernel = after, 3
        self.layers = nn.Sequential(*layers)
        cell = 2 ** len(config.visual)
        places = math.ceil(config.height / cell) * math.ceil(config.width / cell)
        self.out = nn.Linear(before * places, config.embedding)

    def forward(self, mouths: Tensor) -> Tensor:
        # Light and contrast are the camera's, not the lips'.
        std, mean = torch.std_mean(mouths, dim=(2, 3), keepdim=True)
        windows = ((mouths - mean) / (std + 0.02)).unfold(1, self.frames, 1).movedim(-1, 2)  # (B, T', frames, h, w)
        x = self.layers(windows.flatten(0, 1).contiguous(memory_format=torch.channels_last))
        features: Tensor = self.out(F.dropout(x.flatten(1), self.dropout, self.training))
        return features.unflatten(0, windows.shape[:2])


class HearingTower(nn.Module):
    """Convolutions over mel rows that see exactly one window: 20 rows, a row out for every 4 in."""

    def __init__(self, config: ExpertConfig) -> None:
        super().__init__()
        if config.frames != 5:
            raise ValueError(f"the tower is laid out for windows of 5 frames, not {config.frames}")
        self.dropout, width = config.dropout, config.audio

        def layer(before: int, kernel: int, stride: int) -> list[nn.Module]:
            return [nn.Conv1d(before, width, kernel, stride, bias=False), nn.BatchNorm1d(width), nn.ReLU()]

        # Rows seen: 3, 5, 8 (then every second), 12, 20 (then every fourth).
        sizes = ((config.bands, 3, 1), (width, 3, 1), (width, 4, 2), (width, 3, 1), (width, 5, 2))
        self.layers = nn.Sequential(*(part for size in sizes for part in layer(*size)))
        self.out = nn.Linear(width, config.embedding)

    def forward(self, mel: Tensor) -> Tensor:
        x = self.layers(mel.transpose(1, 2)).transpose(1, 2)
        features: Tensor = self.out(F.dropout(x, self.dropout, self.training))
        return features


def mouths_of(pixels: Tensor, config: ExpertConfig, margin: float = 1.0) -> Tensor:
    """Return what the expert sees of canvases (..., 3, S, S) in [0, 1]: grey mouths (..., h, w), differentiable.

    margin: how much more than the mouth's box is taken, with as many more pixels.
    """
    side = pixels.shape[-1]
    left, top, right, bottom = MOUTH
    x, y, w, h = (left + right) / 2, (top + bottom) / 2, (right - left) * margin / 2, (bottom - top) * margin / 2
    left, top, right, bottom = (round(share * side) for share in (x - w, y - h, x + w, y + h))
    red, green, blue = pixels[..., top:bottom, left:right].unbind(-3)
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    size = (round(config.height * margin), round(config.width * margin))
    flat = grey.reshape(-1, 1, *grey.shape[-2:])
    small = F.interpolate(flat, size, mode="bilinear", antialias=True, align_corners=False)
    return small.reshape(*grey.shape[:-2], *size)


def sync_loss(expert: Expert, pixels: Tensor, mel: Tensor) -> Tensor:
    """Return the mean distance, 1 - cosine, of pictures and the sound they shall belong to; differentiable in both.

    pixels: canvases (B, T, 3, S, S) in [0, 1] at 25 fps, T >= 5.  mel: (B, 4 T, 80), row 0 at the first frame's moment.
    The expert should be in evaluation mode and its weights frozen.
    """
    if pixels.shape[1] < expert.config.frames or mel.shape[1] != ROWS_PER_FRAME * pixels.shape[1]:
        raise ValueError(
            f"{pixels.shape[1]} frames need {expert.config.frames} or more and 4 mel rows each, not {mel.shape[1]}"
        )
    seen, heard = expert.see(mouths_of(pixels, expert.config)), expert.hear(mel)
    return (1 - (seen * heard).sum(-1)).mean()
