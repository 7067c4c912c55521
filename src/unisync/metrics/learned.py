"""What the metrics of papers share: a network that somebody published, and a word where its file is missing."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unisync.metrics.base import Better, Value
from unisync.models import find
from unisync.nets.published import load_published
from unisync.types import Pixels, Window


class Learned:
    """A metric that needs a published network; it is looked for when the first window comes, or a figure is asked for.

    weights: the published file's name.  view, size: what the network was made to be shown, by its name in
    face/views.py, and its side in px.  figures: names of what `measured` returns.  alone: a truth is not looked at.
    """

    name: str
    unit: str
    better: Better
    weights: str
    view: str
    size: int
    figures: tuple[str, ...]
    alone: bool = False

    def __init__(self, network: Any = None) -> None:
        self._network, self._looked = network, network is not None

    @property
    def network(self) -> Any:
        """The network, or None where its file is missing. Raises WeightsError if that is damaged."""
        if not self._looked:
            path = find(self.weights)
            self._network = None if path is None else _loaded(self.weights, path)
            self._looked = True
        return self._network

    def begin(self) -> None:
        """Be told that the next window is of another face or film than the one before."""

    def update(self, made: Window, truth: Window | None = None) -> None:
        """Take a stretch on canvases of this metric's own view."""
        if self.network is not None:
            self.take(made, truth)

    def compute(self) -> dict[str, Value]:
        """Return the figures so far, or that the weights are missing."""
        if self.network is None:
            return dict.fromkeys(self.figures, f"weights missing: {self.weights}")
        return self.measured()

    def take(self, made: Window, truth: Window | None) -> None:
        """Measure a stretch."""
        raise NotImplementedError

    def measured(self) -> dict[str, Value]:
        """Return what was measured so far."""
        raise NotImplementedError


def as_pictures(pixels: Pixels) -> Tensor:
    """Return pictures (T, 3, H, W) in [0, 255] of canvases (T, H, W, 3), where the networks are."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).to(_device()).permute(0, 3, 1, 2).float()


@cache
def _loaded(name: str, path: Path) -> nn.Module:
    return load_published(name, path).to(_device())


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
