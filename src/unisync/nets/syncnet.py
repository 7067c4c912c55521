"""SyncNet v2, the network behind LSE-C and LSE-D, laid out as the published file `syncnet_v2.model`; inference only.

Chung and Zisserman, "Out of time: automated lip sync in the wild", 2016.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

FRAMES = 5
"""Pictures in a window, at 25 a second."""
ROWS = 20
"""Rows of cepstra in a window, at 100 a second."""
CEPSTRA = 13
SIDE = 224
"""Pixels of a picture, either way."""
EMBEDDING = 1024


class SyncNet(nn.Module):
    """Two towers whose embeddings, not normalised, are compared by Euclidean distance."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_heard(1, 64, (3, 3), 1), nn.MaxPool2d(1, 1),
            *_heard(64, 192, (3, 3), 1), nn.MaxPool2d(3, (1, 2)),
            *_heard(192, 384, (3, 3), 1), *_heard(384, 256, (3, 3), 1), *_heard(256, 256, (3, 3), 1),
            nn.MaxPool2d(3, 2), *_heard(256, 512, (5, 4), 0),
        )  # fmt: skip
        self.netfcaud = _head()
        self.netfclip = _head()
        self.netcnnlip = nn.Sequential(
            *_seen(3, 96, (FRAMES, 7, 7), 2, 0), nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_seen(96, 256, (1, 5, 5), 2, 1), nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            *_seen(256, 256, (1, 3, 3), 1, 1), *_seen(256, 256, (1, 3, 3), 1, 1), *_seen(256, 256, (1, 3, 3), 1, 1),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)), *_seen(256, 512, (1, 6, 6), 1, 0),
        )  # fmt: skip

    @torch.no_grad()
    def see(self, pictures: Tensor) -> Tensor:
        """Return embeddings (T - 4, 1024) of pictures (T, 3, 224, 224), blue first, in [0, 255]; row i is of i to i + 4.

        Only the first layer reaches over time, so a film is seen at once and gives what its windows give one by one.
        """
        x = self.netcnnlip(pictures.transpose(0, 1)[None])  # (1, 512, T - 4, 1, 1)
        seen: Tensor = self.netfclip(x[0, :, :, 0, 0].T)
        return seen

    @torch.no_grad()
    def hear(self, cepstra: Tensor) -> Tensor:
        """Return embeddings (N, 1024) of windows of cepstra (N, 13, 20)."""
        heard: Tensor = self.netfcaud(self.netcnnaud(cepstra[:, None]).flatten(1))
        return heard


def _heard(before: int, after: int, kernel: tuple[int, int], padding: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, kernel, padding=padding), nn.BatchNorm2d(after), nn.ReLU(True)]


def _seen(before: int, after: int, kernel: tuple[int, int, int], stride: int, padding: int) -> list[nn.Module]:
    conv = nn.Conv3d(before, after, kernel, (1, stride, stride), (0, padding, padding))
    return [conv, nn.BatchNorm3d(after), nn.ReLU(True)]


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(True), nn.Linear(512, EMBEDDING))
