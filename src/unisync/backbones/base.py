"""What a method asks of a backbone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from unisync.nets.audio import AudioEncoder
from unisync.nets.transformer import Condition
from unisync.types import Pixels


@dataclass(frozen=True)
class Geometry:
    """canvas: side in px.  length: frames a window.  channels, spatial and temporal stride: of the latents."""

    canvas: int
    length: int
    channels: int
    spatial_stride: int
    temporal_stride: int
    audio_tokens: int


class Backbone(Protocol):
    """Pixels to latents and back, the speech encoder, and the velocity between noise and data."""

    @property
    def geometry(self) -> Geometry: ...

    @property
    def device(self) -> torch.device:
        """Where the networks lie."""

    @property
    def lip_gain(self) -> float:
        """How much the regressed lip parameters must be spread to move as much as real lips do."""

    @property
    def steps(self) -> int:
        """How many denoising steps these weights are meant for, from closed lips."""

    def encode(self, pixels: Pixels) -> Tensor:
        """Return latents (1, C, F', h, w) of canvases uint8 (F, S, S, 3)."""

    def decode(self, z: Tensor) -> Pixels:
        """Return canvases uint8 (F, S, S, 3) of latents (1, C, F', h, w)."""

    @property
    def audio(self) -> AudioEncoder:
        """The speech encoder that the transformer was trained with."""

    def closed_lips(self) -> Tensor:
        """Return the standardised lip parameters (6,) of closed lips at rest."""

    def velocity(self, z: Tensor, sigma: float, condition: Condition) -> Tensor:
        """Return the velocity (B, C, F', h, w) at noise level sigma."""
