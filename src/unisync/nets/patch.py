"""Latents to patches, for the noisy video and for the pose."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class PatchEmbedding(nn.Conv3d):
    """A convolution whose kernel is its stride, done as one matrix product: Conv3d is slow on CPUs."""

    def __init__(self, channels: int, width: int, patch: tuple[int, int, int]) -> None:
        super().__init__(channels, width, kernel_size=patch, stride=patch)
        self.patch = patch

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens (B, F', h', w', D) from (B, C, F, h, w)."""
        b, c, f, h, w = x.shape
        pf, ph, pw = self.patch
        x = x.reshape(b, c, f // pf, pf, h // ph, ph, w // pw, pw).permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)
        return F.linear(x, self.weight.flatten(1), self.bias)
