"""CSIM: is it still the same person? Cosine of ArcFace embeddings, frame by frame."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from unisync.metrics.base import NOTHING_SEEN, Better, Value, beside
from unisync.metrics.learned import Learned, as_pictures
from unisync.types import Pixels, Window


class Csim(Learned):
    """Mean cosine of the made face with the truth's in the same frame.

    A frame in which either film shows no face has landmarks that are nan; such frames are counted, never averaged.
    """

    name = "csim"
    unit = "cosine"
    better: Better = "higher"
    weights = "w600k_r50.pth"
    view = "arcface"
    size = 112
    figures = ("csim", "csim_no_face")

    def __init__(self, network: object = None) -> None:
        super().__init__(network)
        self._sum, self._num, self._faceless = 0.0, 0, 0

    def take(self, made: Window, truth: Window | None) -> None:
        truth = beside(made, truth, self.name)
        both = np.isfinite(made.landmarks).all((1, 2)) & np.isfinite(truth.landmarks).all((1, 2))
        self._faceless += int((~both).sum())
        if both.any():
            cosines = F.cosine_similarity(self._embedded(made.pixels[both]), self._embedded(truth.pixels[both]))
            self._sum += float(cosines.double().sum())
            self._num += len(cosines)

    def _embedded(self, pixels: Pixels) -> torch.Tensor:
        embeddings: torch.Tensor = self.network(as_pictures(pixels) / 127.5 - 1)
        return embeddings

    def measured(self) -> dict[str, Value]:
        mean: Value = self._sum / self._num if self._num else NOTHING_SEEN
        return {"csim": mean, "csim_no_face": float(self._faceless)}
