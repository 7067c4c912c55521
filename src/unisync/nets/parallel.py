"""One window over several processes: each has a part of every frame's tokens, and in self-attention a part of the heads.

After DeepSpeed-Ulysses (arXiv 2309.14509), with torch's own collectives. Attention does not ask in which order tokens
stand, so a part may be any; a part of every frame leaves all that goes frame by frame as it is.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from unisync.errors import OptionError
from unisync.nets.attention import Attend, Rotary
from unisync.nets.kernels import self_attentions
from unisync.nets.transformer import Run, Transformer


class ContextParallel:
    """A passage for a group of processes that all call the network with the same inputs; all get the whole result."""

    def __init__(self, net: Transformer, group: dist.ProcessGroup | None = None) -> None:
        """Stand before a network's blocks; group: None for all processes. Raises OptionError if heads do not divide."""
        self.group = group
        self.num, self.rank = dist.get_world_size(group), dist.get_rank(group)
        if net.config.heads % self.num:
            raise OptionError(
                f"{net.config.heads} heads cannot be shared out over {self.num} processes: take a number that divides them"
            )
        for attention in self_attentions(net):
            attention.attend = self._sharing(attention.attend)
        net.passages.append(self)

    def __call__(self, run: Run, x: Tensor, steer: Tensor, rotary: Rotary) -> Tensor:
        _, frames, tokens, _ = x.shape
        if tokens % self.num:
            raise OptionError(
                f"{tokens} tokens a frame cannot be shared out over {self.num} processes: take another canvas"
            )
        cos, sin = (self._part(table.unflatten(2, (frames, tokens)), 3).flatten(2, 3) for table in rotary)
        out = run(self._part(x, 2).contiguous(), steer, (cos, sin)).contiguous()
        parts = [torch.empty_like(out) for _ in range(self.num)]
        dist.all_gather(parts, out, self.group)
        return torch.cat(parts, dim=2)

    def _part(self, x: Tensor, dim: int) -> Tensor:
        return x.chunk(self.num, dim)[self.rank]

    def _sharing(self, inner: Attend) -> Attend:
        """Return attention over the tokens of all processes for queries, keys and values (B, heads, n, d) of one."""

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            three = torch.stack([q, k, v]).unflatten(2, (self.num, -1)).movedim(2, 0)
            q, k, v = self._exchanged(three).movedim(0, 3).flatten(3, 4).unbind(0)  # all tokens, a part of the heads
            answers = inner(q, k, v).unflatten(2, (self.num, -1)).movedim(2, 0)
            return self._exchanged(answers).movedim(0, 1).flatten(1, 2)

        return attend

    def _exchanged(self, x: Tensor) -> Tensor:
        """Return what the processes sent to this one, in their order, for x (processes, ...) that it sends to them."""
        sent = x.contiguous()
        found: Any = torch.empty_like(sent)
        dist.all_to_all_single(found, sent, group=self.group)
        got: Tensor = found
        return got
