"""The embedded audio encoder: mel bands to features and to the lips that make such sounds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LIP_PARAMETERS = ("opening", "side_opening", "width", "inner_width", "jaw", "upper_lip")
"""What the lip head predicts, in canvas sides; the first two absolute (0: closed), the others against the speaker's rest."""


@dataclass(frozen=True)
class AudioConfig:
    """bands: mel bands in.  width: features out.  dilations: one residual convolution each, at 50 Hz."""

    bands: int = 80
    width: int = 160
    dilations: tuple[int, ...] = (1, 2, 4, 1, 2, 4)
    dropout: float = 0.2

    rate: float = 50.0
    """Feature rows a second."""

    @property
    def context(self) -> int:
        """Feature rows on each side that a row depends on."""
        return 2 * sum(self.dilations) + 3


class AudioEncoder(nn.Module):
    """Dilated convolutions, mel (B, 2N, 80) at 100 Hz -> features (B, N, width) at 50 Hz."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = nn.Conv1d(config.bands, config.width, 5, padding=2)
        self.down = nn.Conv1d(config.width, config.width, 5, stride=2, padding=2)
        self.layers = nn.ModuleList(
            [nn.Conv1d(config.width, config.width, 5, padding=2 * d, dilation=d) for d in config.dilations]
        )
        self.lips = nn.Linear(config.width, len(LIP_PARAMETERS))
        # Lip parameters are learnt in units of their spread over the training films.
        self.register_buffer("lip_mean", torch.zeros(len(LIP_PARAMETERS)))
        self.register_buffer("lip_std", torch.ones(len(LIP_PARAMETERS)))
        self.lip_mean: Tensor
        self.lip_std: Tensor

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (B, N, width) and standardised lip parameters (B, N, 6)."""
        x = F.gelu(self.stem(mel.transpose(1, 2)))
        x = F.gelu(self.down(x))
        for layer in self.layers:
            x = x + F.dropout(F.gelu(layer(x)), self.config.dropout, self.training)
        features = x.transpose(1, 2)
        return features, self.lips(features)
