"""Matrices that lie in memory as fp8 with a scale a row, and are multiplied in the input's own precision."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FP8 = torch.float8_e4m3fn
LARGEST = torch.finfo(FP8).max
SMALLEST = 1e-12
"""Of a scale: rows of zeros have one too."""


class Fp8Linear(nn.Module):
    """A linear layer of half the size. weight: (out, in) in e4m3.  scale: float32 (out, 1) or (1, 1), times it.

    It gives bit for bit what a linear layer gives whose weight is that product, rounded to the input's precision.
    """

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.to(x.dtype).mul_(self.get_buffer("scale"))
        return F.linear(x, weight, self.bias)


def rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return a weight (out, in) in e4m3 and its scales (out, 1)."""
    scale = weight.float().abs().amax(dim=1, keepdim=True).clamp_min(SMALLEST) / LARGEST
    return (weight.float() / scale).to(FP8), scale


@torch.no_grad()
def store_fp8(net: nn.Module) -> None:
    """Replace the linear layers of a transformer's blocks, one at a time; what is around the blocks stays as it is."""
    for name, module in list(net.get_submodule("blocks").named_modules(prefix="blocks")):
        if type(module) is nn.Linear:
            bias = None if module.bias is None else module.bias.detach()
            net.set_submodule(name, Fp8Linear(*rounded(module.weight.detach()), bias))
