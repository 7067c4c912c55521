"""IResNet-50 of ArcFace, laid out as `w600k_r50.pth`: whose face is it; inference only.

Deng et al., "ArcFace: additive angular margin loss for deep face recognition", 2019.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SIDE = 112
"""Pixels of a picture, either way."""
EMBEDDING = 512
STAGES = {"layer1": (64, 3), "layer2": (128, 4), "layer3": (256, 14), "layer4": (512, 3)}
"""Channels and blocks of each stage; each halves the picture."""


class ArcFace(nn.Module):
    """Aligned faces to embeddings that are compared by cosine."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1, self.prelu = nn.BatchNorm2d(64), nn.PReLU(64)
        before = 64
        for name, (after, num) in STAGES.items():
            blocks = [Block(before, after, 2), *(Block(after, after, 1) for _ in range(num - 1))]
            self.add_module(name, nn.Sequential(*blocks))
            before = after
        self.bn2 = nn.BatchNorm2d(before)
        self.fc = nn.Linear(before * (SIDE // 16) ** 2, EMBEDDING)
        self.features = nn.BatchNorm1d(EMBEDDING)

    @torch.no_grad()
    def forward(self, faces: Tensor) -> Tensor:
        """Return embeddings (N, 512), not normalised, of faces (N, 3, 112, 112) in [-1, 1], red first."""
        x = self.prelu(self.bn1(self.conv1(faces)))
        for name in STAGES:
            x = self.get_submodule(name)(x)
        embeddings: Tensor = self.features(self.fc(self.bn2(x).flatten(1)))
        return embeddings


class Block(nn.Module):
    """A residual block that normalises before and after its two convolutions."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.bn2, self.prelu = nn.BatchNorm2d(after), nn.PReLU(after)
        self.conv2 = nn.Conv2d(after, after, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(after)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1:
            short = nn.Conv2d(before, after, 1, stride, bias=False)
            self.downsample = nn.Sequential(short, nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(self.bn1(x))
        y = self.bn3(self.conv2(self.prelu(self.bn2(y))))
        return torch.add(y, self.downsample(x))
