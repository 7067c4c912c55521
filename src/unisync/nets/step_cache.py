"""Steps that are so near to one another that the blocks need not run: what they changed last is added again.

After TeaCache (arXiv 2411.19108): how far the timestep embedding that modulates the blocks has moved says how far their
output has. Its polynomials, fitted to single models, are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unisync.nets.attention import Rotary
from unisync.nets.transformer import Run, Transformer


@dataclass
class _Stream:
    """One of the forwards that a step makes. last: the embedding of the step before.  change: what the blocks made last time.

    moved: relative L1 distance that the embedding has gone since.  step: the last one with this stream.
    """

    last: Tensor
    change: Tensor
    moved: float
    step: int


class StepCache:
    """A passage for one film at a time, whose levels fall from step to step and begin anew with each window.

    Guidance runs several forwards at a level, always in the same order; each of them is a stream of its own.
    """

    def __init__(self, net: Transformer, threshold: float) -> None:
        """Stand before a network's blocks. threshold: how far the embedding may move before they run again."""
        self.threshold = threshold
        self.ran = self.saved = 0
        self._streams: dict[int, _Stream] = {}
        self._level, self._step, self._at = float("inf"), 0, 0
        net.register_forward_pre_hook(self._begin)
        net.passages.append(self)

    def __call__(self, run: Run, x: Tensor, steer: Tensor, rotary: Rotary) -> Tensor:
        stream = self._streams.get(self._at)
        if stream is not None and stream.step == self._step - 1 and stream.change.shape == x.shape:
            stream.moved += ((steer - stream.last).abs().mean() / stream.last.abs().mean()).item()
            stream.last, stream.step = steer, self._step
            if stream.moved < self.threshold:
                self.saved += 1
                return x + stream.change
        out = run(x, steer, rotary)
        self._streams[self._at] = _Stream(steer, out - x, 0.0, self._step)
        self.ran += 1
        return out

    def _begin(self, net: nn.Module, args: tuple[Any, ...]) -> None:
        """Find out which step and which of its forwards this is."""
        level = float(args[1].max())
        if level == self._level:
            self._at += 1
            return
        if level > self._level:
            self._streams.clear()
        self._level, self._at, self._step = level, 0, self._step + 1


def distance(found: Tensor, wanted: Tensor) -> float:
    """Return how far one result is from another, relative to it."""
    return (torch.linalg.vector_norm(found - wanted) / torch.linalg.vector_norm(wanted)).item()
