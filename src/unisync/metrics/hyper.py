"""HyperIQA, as pyiqa has it; pyiqa needs torchvision and fetches weights, so it is the user's to install."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from unisync.metrics.base import NOTHING_SEEN, Better, Value
from unisync.types import Window

Score = Callable[[Tensor], Tensor]
MISSING = "pyiqa is not installed"


class HyperIqa:
    """Mean over frames of HyperIQA (Su 2020) of the canvas, times 100 as papers print it. A truth is not looked at."""

    name = "hyperiqa"
    unit = "0 to 100"
    better: Better = "higher"

    def __init__(self, score: Score | None = None) -> None:
        """score: of pictures float32 (N, 3, H, W) in [0, 1]; without it pyiqa's, loaded when the first window comes."""
        self._score: Score | str | None = score
        self._sum, self._num = 0.0, 0

    def update(self, made: Window, truth: Window | None = None) -> None:
        if self._score is None:
            self._score = _pyiqa()
        if isinstance(self._score, str):
            return
        for pixels in made.pixels:
            picture = torch.tensor(pixels).permute(2, 0, 1)[None].float() / 255
            with torch.no_grad():
                self._sum += 100 * float(self._score(picture))
            self._num += 1

    def compute(self) -> dict[str, Value]:
        if isinstance(self._score, str):
            return {self.name: self._score}
        return {self.name: self._sum / self._num if self._num else NOTHING_SEEN}


def _pyiqa() -> Score | str:
    """Return pyiqa's network, or why it is not there."""
    try:
        import pyiqa  # type: ignore[import-not-found]
    except ImportError as error:
        return MISSING if error.name == "pyiqa" else f"pyiqa cannot be imported: {error}"
    try:
        return pyiqa.create_metric("hyperiqa")  # type: ignore[no-any-return]
    except Exception as error:  # whatever a download or another's file may raise
        return f"pyiqa cannot load it: {error}"
