"""Latents to patches, for the noisy video and for the pose."""

from __future__ import annotations

import torch
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


def expand_patch_embedding(weight: Tensor, channels: int) -> Tensor:
    """Return weight (D, channels, ...) with zeros for the channels that the base model did not have (Eq 2).

    The expanded embedding gives the base model's tokens bit for bit until training moves the new half.
    Raises ValueError if the base model has more channels already.
    """
    missing = channels - weight.shape[1]
    if missing < 0:
        raise ValueError(f"the base model's patch embedding has {weight.shape[1]} channels, more than {channels}")
    new = weight.new_zeros(weight.shape[0], missing, *weight.shape[2:])
    return torch.cat([weight, new], dim=1)
