"""I3D on RGB, laid out as `rgb_imagenet.pt` (Kinetics-400), one of the two networks behind FVD; inference only.

Carreira and Zisserman, "Quo vadis, action recognition?", 2017. FVD takes its 400 logits as features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 224
"""Pixels of a picture, either way."""
CLASSES = 400
Triple = tuple[int, int, int]
ONE: Triple = (1, 1, 1)
TWO: Triple = (2, 2, 2)
THREE: Triple = (3, 3, 3)
ACROSS: Triple = (1, 3, 3)
HALVED: Triple = (1, 2, 2)

WIDTHS = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32), "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64), "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64), "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128), "Mixed_5c": (384, 192, 384, 48, 128, 128),
}  # fmt: skip
"""Channels of each block's six convolutions."""


class I3d(nn.Module):
    """Clips to the logits of 400 actions."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = Unit(3, 64, (7, 7, 7), TWO)
        self.Conv3d_2b_1x1 = Unit(64, 64, ONE)
        self.Conv3d_2c_3x3 = Unit(64, 192, THREE)
        before = 192
        for name, widths in WIDTHS.items():
            self.add_module(name, Mixed(before, widths))
            before = widths[0] + widths[2] + widths[4] + widths[5]
        self.logits = nn.ModuleDict({"conv3d": nn.Conv3d(before, CLASSES, 1)})

    @torch.no_grad()
    def forward(self, clips: Tensor) -> Tensor:
        """Return logits (N, 400), the mean over time, of clips (N, 3, T, 224, 224) in [-1, 1], red first; T from 9 on."""
        x = pooled(self.Conv3d_1a_7x7(clips), ACROSS, HALVED)
        x = pooled(self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x)), ACROSS, HALVED)
        for name in WIDTHS:
            if name == "Mixed_4b":
                x = pooled(x, THREE, TWO)
            elif name == "Mixed_5b":
                x = pooled(x, TWO, TWO)
            x = self.get_submodule(name)(x)
        x = F.avg_pool3d(x, (2, x.shape[3], x.shape[4]), stride=1)
        logits: Tensor = self.logits["conv3d"](x)
        return logits.mean((2, 3, 4))


class Unit(nn.Module):
    """A convolution without bias, padded as TensorFlow's "same" does, normalised and rectified."""

    def __init__(self, before: int, after: int, kernel: Triple, stride: Triple = ONE) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(before, after, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(after, eps=0.001)
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv3d(same(x, self.kernel, self.stride))), inplace=True)


class Mixed(nn.Module):
    """Four branches laid together: a point, two narrowed cubes, and the largest of the neighbours."""

    def __init__(self, before: int, widths: Sequence[int]) -> None:
        super().__init__()
        point, narrow, wide, narrower, less, after = widths
        self.b0 = Unit(before, point, ONE)
        self.b1a, self.b1b = Unit(before, narrow, ONE), Unit(narrow, wide, THREE)
        self.b2a, self.b2b = Unit(before, narrower, ONE), Unit(narrower, less, THREE)
        self.b3b = Unit(before, after, ONE)

    def forward(self, x: Tensor) -> Tensor:
        near = self.b3b(pooled(x, THREE, ONE))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), near], 1)


def same(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Return x (N, C, T, H, W) with zeros around it so that ceil(size / stride) places remain; the odd one stands behind."""
    padding: list[int] = []
    for size, k, s in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride), strict=True):
        lacking = max(k - (size % s or s), 0)
        padding += [lacking // 2, lacking - lacking // 2]
    return F.pad(x, padding)


def pooled(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Return the largest of every cube; what is pooled is rectified, so zeros around it change nothing."""
    return F.max_pool3d(same(x, kernel, stride), kernel, stride)
