"""The embedded autoencoder: single canvases, stride 8, convolutional, so any canvas size divisible by 8 works."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class VaeConfig:
    """latent_channels: C of the latents.  width, deep_width: channels at stride 4 and stride 8."""

    latent_channels: int = 16
    width: int = 96
    deep_width: int = 160

    stride: int = 8


class Residual(nn.Module):
    """Two 3x3 convolutions beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.GroupNorm(8, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.net(x)


class FaceVae(nn.Module):
    """Pixels in [-1, 1] (B, 3, H, W) <-> latents (B, C, H/8, W/8) of about unit variance.

    The buffers `mean` and `std` (C,) are the statistics of raw latents over the training canvases.
    """

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.config = config
        c, width, deep = config.latent_channels, config.width, config.deep_width
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(48, width, 3, padding=1),
            Residual(width),
            nn.Conv2d(width, deep, 3, stride=2, padding=1),
            Residual(deep),
            Residual(deep),
            nn.Conv2d(deep, 2 * c, 3, padding=1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(c, deep, 3, padding=1),
            Residual(deep),
            Residual(deep),
            nn.Conv2d(deep, 4 * width, 3, padding=1),
            nn.PixelShuffle(2),
            Residual(width),
            Residual(width),
            nn.SiLU(),
            nn.Conv2d(width, 96, 3, padding=1),
            nn.PixelShuffle(4),
            nn.SiLU(),
            nn.Conv2d(6, 16, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(16, 3, 3, padding=1),
        )
        self.register_buffer("mean", torch.zeros(c))
        self.register_buffer("std", torch.ones(c))
        self.mean: Tensor
        self.std: Tensor

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance (B, C, h, w) of the raw latents."""
        mean, log_var = self.encoder(x).chunk(2, dim=1)
        return mean, log_var.clamp(-10, 2)

    def reconstruct(self, raw: Tensor) -> Tensor:
        """Return pixels (B, 3, H, W) from raw latents."""
        pixels: Tensor = self.decoder(raw)
        return pixels

    def encode(self, x: Tensor) -> Tensor:
        """Return normalised latents (B, C, H/8, W/8), the mode of the posterior."""
        raw = self.posterior(x)[0]
        return (raw - self.mean[:, None, None]) / self.std[:, None, None]

    def decode(self, z: Tensor) -> Tensor:
        """Return pixels (B, 3, H, W), about [-1, 1], from normalised latents."""
        return self.reconstruct(z * self.std[:, None, None] + self.mean[:, None, None])
