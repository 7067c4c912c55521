"""Audio features at the moment of each frame: time is in seconds, so any frame rate works."""

from __future__ import annotations

import torch
from torch import Tensor

SPACING = 0.04
"""Seconds between neighbouring audio tokens of a frame."""


def at_moments(features: Tensor, rate: float, seconds: Tensor) -> Tensor:
    """Return rows (..., D) of features (N, D) at times seconds (...), linear between rows; the ends are held.

    rate: rows a second, row 0 at second 0.
    """
    position = (seconds * rate).clamp(0, len(features) - 1)
    low = position.floor().long()
    high = (low + 1).clamp_max(len(features) - 1)
    share = (position - low).to(features.dtype)[..., None]
    return features[low] * (1 - share) + features[high] * share


def token_moments(seconds: Tensor, num: int) -> Tensor:
    """Return the times (..., num) of a frame's audio tokens, centred on the frame's own moment (...)."""
    return seconds[..., None] + (torch.arange(num, device=seconds.device) - (num - 1) / 2) * SPACING
