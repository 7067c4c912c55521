"""The Inception V3 of FID, laid out as `pt_inception-2015-12-05-6726825d.pth`; inference only.

Szegedy et al. 2015, with what sets the network of the first FID apart from others of its name: averages that leave
padding out, a last block that takes the largest instead, and 1008 classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 299
"""Pixels of a picture, either way."""
FEATURES = 2048
Kernel = int | tuple[int, int]
Row = tuple[str, str, int, Kernel]
"""A convolution: its name, whose output it takes ("x": the block's input, "pool": that input pooled), channels, kernel."""
POINT, WIDE, TALL = 1, (1, 7), (7, 1)

average = partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
largest = partial(F.max_pool2d, kernel_size=3, stride=1, padding=1)
shrink = partial(F.max_pool2d, kernel_size=3, stride=2)


class Inception(nn.Module):
    """Pictures to the 2048 features before the classes."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = Conv(80, 192, 3)
        self.Mixed_5b = Mixed(192, _small(32))
        self.Mixed_5c = Mixed(256, _small(64))
        self.Mixed_5d = Mixed(288, _small(64))
        self.Mixed_6a = Mixed(288, _TO_17, shrink, ("branch3x3", "branch3x3dbl_3"))
        self.Mixed_6b = Mixed(768, _middle(128))
        self.Mixed_6c = Mixed(768, _middle(160))
        self.Mixed_6d = Mixed(768, _middle(160))
        self.Mixed_6e = Mixed(768, _middle(192))
        self.Mixed_7a = Mixed(768, _TO_8, shrink, ("branch3x3_2", "branch7x7x3_4"))
        self.Mixed_7b = Mixed(1280, _LARGE)
        self.Mixed_7c = Mixed(2048, _LARGE, largest)
        self.fc = nn.Linear(FEATURES, 1008)

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> Tensor:
        """Return features (N, 2048) of pictures (N, 3, H, W) in [0, 1], red first, of any size and shape."""
        x = 2 * F.interpolate(pictures, (SIDE, SIDE), mode="bilinear", align_corners=False) - 1
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(shrink(x)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(shrink(x))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        features: Tensor = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return features.mean((2, 3))


class Conv(nn.Module):
    """A convolution without bias, normalised and rectified."""

    def __init__(self, before: int, after: int, kernel: Kernel, stride: int = 1, padding: Kernel = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(after, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Mixed(nn.Module):
    """Branches beside each other, told as rows; what no other row takes is laid together in the rows' order.

    halved: rows that halve the picture; the pooled input itself is then the last of what is laid together.
    """

    def __init__(
        self, before: int, rows: Sequence[Row], pool: partial[Tensor] = average, halved: tuple[str, ...] = ()
    ) -> None:
        super().__init__()
        channels = {"x": before, "pool": before}
        for name, source, after, kernel in rows:
            padding = 0 if name in halved else _half(kernel)
            self.add_module(name, Conv(channels[source], after, kernel, 2 if name in halved else 1, padding))
            channels[name] = after
        self.pool, self.sources = pool, {name: source for name, source, _, _ in rows}
        taken = set(self.sources.values())
        self.leaves = [name for name in (*self.sources, "pool") if name not in taken]

    def forward(self, x: Tensor) -> Tensor:
        parts = {"x": x, "pool": self.pool(x)}
        for name, source in self.sources.items():
            parts[name] = self.get_submodule(name)(parts[source])
        return torch.cat([parts[name] for name in self.leaves], 1)


def _half(kernel: Kernel) -> Kernel:
    """Return the padding that keeps a picture's size."""
    return kernel // 2 if isinstance(kernel, int) else (kernel[0] // 2, kernel[1] // 2)


def _small(pooled: int) -> tuple[Row, ...]:
    """Return the branches on 35 x 35."""
    return (
        ("branch1x1", "x", 64, POINT),
        ("branch5x5_1", "x", 48, POINT), ("branch5x5_2", "branch5x5_1", 64, 5),
        ("branch3x3dbl_1", "x", 64, POINT), ("branch3x3dbl_2", "branch3x3dbl_1", 96, 3),
        ("branch3x3dbl_3", "branch3x3dbl_2", 96, 3),
        ("branch_pool", "pool", pooled, POINT),
    )  # fmt: skip


def _middle(width: int) -> tuple[Row, ...]:
    """Return the branches on 17 x 17."""
    return (
        ("branch1x1", "x", 192, POINT),
        ("branch7x7_1", "x", width, POINT), ("branch7x7_2", "branch7x7_1", width, WIDE),
        ("branch7x7_3", "branch7x7_2", 192, TALL),
        ("branch7x7dbl_1", "x", width, POINT), ("branch7x7dbl_2", "branch7x7dbl_1", width, TALL),
        ("branch7x7dbl_3", "branch7x7dbl_2", width, WIDE), ("branch7x7dbl_4", "branch7x7dbl_3", width, TALL),
        ("branch7x7dbl_5", "branch7x7dbl_4", 192, WIDE),
        ("branch_pool", "pool", 192, POINT),
    )  # fmt: skip


_TO_17: tuple[Row, ...] = (
    ("branch3x3", "x", 384, 3),
    ("branch3x3dbl_1", "x", 64, POINT), ("branch3x3dbl_2", "branch3x3dbl_1", 96, 3),
    ("branch3x3dbl_3", "branch3x3dbl_2", 96, 3),
)  # fmt: skip
_TO_8: tuple[Row, ...] = (
    ("branch3x3_1", "x", 192, POINT), ("branch3x3_2", "branch3x3_1", 320, 3),
    ("branch7x7x3_1", "x", 192, POINT), ("branch7x7x3_2", "branch7x7x3_1", 192, WIDE),
    ("branch7x7x3_3", "branch7x7x3_2", 192, TALL), ("branch7x7x3_4", "branch7x7x3_3", 192, 3),
)  # fmt: skip
_LARGE: tuple[Row, ...] = (
    ("branch1x1", "x", 320, POINT),
    ("branch3x3_1", "x", 384, POINT),
    ("branch3x3_2a", "branch3x3_1", 384, (1, 3)), ("branch3x3_2b", "branch3x3_1", 384, (3, 1)),
    ("branch3x3dbl_1", "x", 448, POINT), ("branch3x3dbl_2", "branch3x3dbl_1", 384, 3),
    ("branch3x3dbl_3a", "branch3x3dbl_2", 384, (1, 3)), ("branch3x3dbl_3b", "branch3x3dbl_2", 384, (3, 1)),
    ("branch_pool", "pool", 192, POINT),
)  # fmt: skip
"""The branches on 8 x 8."""
