"""The pose encoder of UniSync's Pose-Anchored Fidelity Strategy (PAFS, Eq 4-9)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unisync.nets.patch import PatchEmbedding


class PoseEncoder(nn.Module):
    """Latents of the pose video -> tokens that are added to the patch tokens.

    The layer norm would swamp a pretrained patch embedding, so the tokens pass a gate that is born at 0.
    """

    def __init__(self, channels: int, width: int, patch: tuple[int, int, int], grid: tuple[int, int, int]) -> None:
        super().__init__()
        self.conv = PatchEmbedding(channels, width, patch)  # Eq 5
        self.proj = nn.Linear(width, width)  # Eq 6
        self.norm = nn.LayerNorm(width)  # Eq 7
        # Learnt positions, factorised over frame, row and column and interpolated, so that any size works.
        self.positions = nn.ParameterList([nn.Parameter(torch.randn(num, width) * 0.02) for num in grid])
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, pose: Tensor, corner: tuple[int, int] = (0, 0), whole: tuple[int, int] | None = None) -> Tensor:
        """Return tokens (B, F', h', w', D) from pose latents (B, C, F, h, w).

        corner: where in a larger grid of tokens they begin.  whole: that grid's rows and columns.
        """
        x = self.proj(self.conv(pose))
        num, rows, columns = x.shape[1:4]
        grid, (top, left) = (num, *(whole or (rows, columns))), corner
        time, row, column = (_resized(table, size) for table, size in zip(self.positions, grid, strict=True))
        x = x + time[:, None, None] + row[top : top + rows, None] + column[left : left + columns]
        out: Tensor = self.norm(x) * self.gate
        return out


def _resized(table: Tensor, num: int) -> Tensor:
    """Return positions (num, D) from a learnt table (M, D)."""
    if len(table) == num:
        return table
    return F.interpolate(table.T[None], size=num, mode="linear", align_corners=False)[0].T
