"""Attention as Wan does it: normalised queries and keys, rotary positions, and what blocks attend to."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Rotary = tuple[Tensor, Tensor]
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""How queries, keys and values (B, heads, N, d) become answers."""
SHORT_CONTEXT = 1024
"""Keys up to which plain products train faster on a CPU than the fused kernel, whose backward is slow there."""


class Told(NamedTuple):
    """What a block attends to. audio: (B, F, A, width).  text, image: (B, L, D)."""

    audio: Tensor | None
    text: Tensor | None
    image: Tensor | None
    frames: int
    """Number of frames that are painted; those beside them come after."""


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return softmax(q k^T / sqrt(d)) v for (B, heads, N, d) over (B, heads, M, d)."""
    if q.requires_grad and k.shape[2] <= SHORT_CONTEXT and q.device.type == "cpu":
        return torch.softmax((q * q.shape[-1] ** -0.5) @ k.mT, dim=-1) @ v
    return F.scaled_dot_product_attention(q, k, v)


class QkNorm(nn.RMSNorm):
    """RMS norm that keeps the input's dtype, so that it stays fused under autocast."""

    def forward(self, x: Tensor) -> Tensor:
        assert self.weight is not None
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class Attention(nn.Module):
    """Multi-head attention with normalised queries and keys, over itself or over a context."""

    def __init__(self, width: int, heads: int, context_width: int | None = None, image: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.attend: Attend = attend
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(context_width or width, width)
        self.v = nn.Linear(context_width or width, width)
        self.o = nn.Linear(width, width)
        self.norm_q = QkNorm(width, eps=1e-6)
        self.norm_k = QkNorm(width, eps=1e-6)
        if image:
            self.k_img = nn.Linear(width, width)
            self.v_img = nn.Linear(width, width)
            self.norm_k_img = QkNorm(width, eps=1e-6)

    def forward(
        self, x: Tensor, context: Tensor | None = None, rotary: Rotary | None = None, told: Told | None = None
    ) -> Tensor:
        """Return (B, N, D). context: (B, M, context_width).  rotary: as `rotary_table` gives it.

        told: what else the same queries ask.
        """
        source = x if context is None else context
        q, k, v = self.norm_q(self.q(x)), self.norm_k(self.k(source)), self.v(source)
        q, k, v = (self.split(t) for t in (q, k, v))
        if rotary is not None:
            q, k = rotate(q, rotary), rotate(k, rotary)
        y = self.attend(q, k, v)
        if told is not None:
            y = self.ask(y, q, told)
        out: Tensor = self.o(y.transpose(1, 2).flatten(2))
        return out

    def ask(self, y: Tensor, q: Tensor, told: Told) -> Tensor:
        """Return answers y (B, heads, N, d) to queries q with those of CLIP's tokens added."""
        if told.image is None:
            return y
        return y + attend(q, self.split(self.norm_k_img(self.k_img(told.image))), self.split(self.v_img(told.image)))

    def split(self, x: Tensor) -> Tensor:
        """Return (B, heads, N, d) from (B, N, D)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def rotary_angles(
    times: Tensor, grid: tuple[int, int, int], head_width: int, corner: tuple[int, int] = (0, 0)
) -> Tensor:
    """Return angles float32 (B, N, head_width / 2) for times (B, F) in positions and the token grid (F, rows, columns).

    corner: position of the first row and column.
    A head's pairs are shared out as Wan does: time gets what rows and columns, a third each, leave over.
    """
    _, rows, columns = grid
    across = 2 * (head_width // 6)
    along = head_width - 2 * across

    def rates(num: int) -> Tensor:
        return 10000.0 ** (-torch.arange(0, num, 2, device=times.device, dtype=torch.float32) / num)

    batch, frames = times.shape
    time = times.float()[..., None] * rates(along)
    row = (torch.arange(rows, device=times.device) + corner[0])[:, None] * rates(across)
    column = (torch.arange(columns, device=times.device) + corner[1])[:, None] * rates(across)
    size = (batch, frames, rows, columns, -1)
    parts = [time[:, :, None, None].expand(size), row[None, None, :, None].expand(size), column.expand(size)]
    return torch.cat(parts, dim=-1).flatten(1, 3)


def rotary_table(angle: Tensor, dtype: torch.dtype) -> Rotary:
    """Return cosines and signed sines (B, 1, N, d) of angles (B, N, d / 2), each twice as `rotate` wants them."""
    cos, sin = angle.cos(), angle.sin()
    pairs = torch.stack((cos, cos), dim=-1), torch.stack((-sin, sin), dim=-1)
    first, second = (pair.flatten(-2)[:, None].to(dtype) for pair in pairs)
    return first, second


def rotate(x: Tensor, rotary: Rotary) -> Tensor:
    """Return x (B, heads, N, d) with each pair of neighbours turned by its angle."""
    cos, sin = rotary
    swapped = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return torch.addcmul(x * cos, swapped, sin)
