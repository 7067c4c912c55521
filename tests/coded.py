"""An expert that needs no training: the brightness of lips and the loudness of sound are one code."""

from __future__ import annotations

import torch
from torch import Tensor

from unisync.nets.expert import Expert, ExpertConfig


class CodedExpert(Expert):
    """Sees a window's middle frame and hears its middle rows; the code is an angle."""

    def __init__(self) -> None:
        super().__init__(ExpertConfig())
        self.eval().requires_grad_(False)

    def see(self, mouths: Tensor) -> Tensor:
        return angle(mouths.mean((2, 3))[:, 2:-2])

    def hear(self, mel: Tensor) -> Tensor:
        return angle(mel.mean(2).unflatten(1, (-1, 4)).mean(2)[:, 2:-2])


def angle(code: Tensor) -> Tensor:
    """Return unit vectors (B, T, 2) of codes (B, T), whatever their scale."""
    code = (code - code.mean(1, keepdim=True)) / code.std(1, keepdim=True)
    return torch.stack([code.cos(), code.sin()], -1)
