"""Wan's transformer once more, token by token in float64 from its authors' equations: the witness of the fast one.

Nothing here is shared with the package. One clip: latents (C, F, h, w), tokens (N, D), patches of 1 x 2 x 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

State = Mapping[str, Tensor]


def linear(state: State, name: str, x: Tensor) -> Tensor:
    y = x @ state[f"{name}.weight"].T
    return y + state[f"{name}.bias"] if f"{name}.bias" in state else y


def norm(x: Tensor, eps: float = 1e-6, state: State | None = None, name: str = "") -> Tensor:
    y = torch.stack([(row - row.mean()) / ((row - row.mean()).square().mean() + eps).sqrt() for row in x])
    return y if state is None else y * state[f"{name}.weight"] + state[f"{name}.bias"]


def rms(state: State, name: str, x: Tensor) -> Tensor:
    return torch.stack([row / (row.square().mean() + 1e-6).sqrt() for row in x]) * state[f"{name}.weight"]


def silu(x: Tensor) -> Tensor:
    return x / (1 + (-x).exp())


def gelu_tanh(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def softmax_over(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Return (N, D) of queries (N, D) over (M, D), a head and a query at a time."""
    size = q.shape[1] // heads
    out = torch.zeros_like(q)
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        for n in range(len(q)):
            weights = torch.tensor([float(q[n, part] @ key[part]) / math.sqrt(size) for key in k]).double().exp()
            out[n, part] = sum(w * value[part] for w, value in zip(weights / weights.sum(), v, strict=True))
    return out


def turned(x: Tensor, places: list[tuple[float, float, float]], heads: int) -> Tensor:
    """Return x (N, D) with each head's pairs, taken as complex numbers, turned by time, row and column."""
    size = x.shape[1] // heads
    pairs = size // 2
    shares = (pairs - 2 * (pairs // 3), pairs // 3, pairs // 3)
    out = x.clone()
    for n, place in enumerate(places):
        angles = [at * 10000 ** (-i / share) for at, share in zip(place, shares, strict=True) for i in range(share)]
        for head in range(heads):
            for i, angle in enumerate(angles):
                a, b = (float(x[n, head * size + 2 * i + j]) for j in (0, 1))
                number = complex(a, b) * complex(math.cos(angle), math.sin(angle))
                out[n, head * size + 2 * i], out[n, head * size + 2 * i + 1] = number.real, number.imag
    return out


def asked(state: State, name: str, x: Tensor, context: Tensor, heads: int) -> Tensor:
    """Return Wan's cross-attention of tokens (N, D) over a context (M, D)."""
    q, k = rms(state, f"{name}.norm_q", linear(state, f"{name}.q", x)), linear(state, f"{name}.k", context)
    k, v = rms(state, f"{name}.norm_k", k), linear(state, f"{name}.v", context)
    return linear(state, f"{name}.o", softmax_over(q, k, v, heads))


def patches(state: State, latents: Tensor, name: str = "patch_embedding") -> Tensor:
    """Return tokens (N, D), frame by frame and row by row."""
    _, frames, h, w = latents.shape
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    cut = [
        latents[:, f, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2]
        for f in range(frames)
        for r in range(h // 2)
        for c in range(w // 2)
    ]
    return torch.stack([(weight[:, :, 0] * patch).sum(dim=(1, 2, 3)) + bias for patch in cut])


def time_vector(state: State, sigma: float, width: int) -> Tensor:
    """Return what says a noise level, (D,)."""
    half = width // 2
    angles = [1000 * sigma * 10000 ** (-i / half) for i in range(half)]
    sines = [math.cos(angle) for angle in angles] + [math.sin(angle) for angle in angles]
    return linear(
        state, "time_embedding.2", silu(linear(state, "time_embedding.0", torch.tensor(sines).double()[None]))
    )[0]


def plain_read(state: State, block: str, x: Tensor, text: Tensor, heads: int) -> Tensor:
    return asked(state, f"{block}.cross_attn", x, text, heads)


@dataclass
class Sequence:
    """What stands in the sequence, and what a kind of model does beside Wan's own block."""

    tokens: Tensor
    places: list[tuple[float, float, float]]
    sigmas: list[float]
    painted: int
    """Tokens that are painted; they come first."""
    readers: int
    """Tokens that read the text; they come first."""
    read: Callable[[State, str, Tensor, Tensor, int], Tensor] = plain_read
    hear: Callable[[str, Tensor], Tensor] = field(default=lambda block, x: x)
    after: Callable[[int, Tensor], Tensor] = field(default=lambda index, x: x)


def run(state: State, sequence: Sequence, text: Tensor, heads: int, layers: int, frequencies: int) -> Tensor:
    """Return the head's output of the painted tokens, (N, 4 * C)."""
    x = sequence.tokens
    vectors = [time_vector(state, sigma, frequencies) for sigma in sequence.sigmas]
    rows = [linear(state, "time_projection.1", silu(vector)[None])[0].view(6, -1) for vector in vectors]
    text = linear(state, "text_embedding.2", gelu_tanh(linear(state, "text_embedding.0", text)))
    for index in range(layers):
        block = f"blocks.{index}"
        shift, scale, gate, shift2, scale2, gate2 = (
            torch.stack([row[i] + state[f"{block}.modulation"][0, i] for row in rows]) for i in range(6)
        )
        y, name = norm(x) * (1 + scale) + shift, f"{block}.self_attn"
        q = turned(rms(state, f"{name}.norm_q", linear(state, f"{name}.q", y)), sequence.places, heads)
        k = turned(rms(state, f"{name}.norm_k", linear(state, f"{name}.k", y)), sequence.places, heads)
        y = softmax_over(q, k, linear(state, f"{name}.v", y), heads)
        x = x + gate * linear(state, f"{name}.o", y)
        reading = x[: sequence.readers]
        read = sequence.read(state, block, norm(reading, state=state, name=f"{block}.norm3"), text, heads)
        x = torch.cat([reading + read, x[sequence.readers :]])
        x = sequence.hear(block, x)
        y = norm(x) * (1 + scale2) + shift2
        x = x + gate2 * linear(state, f"{block}.ffn.2", gelu_tanh(linear(state, f"{block}.ffn.0", y)))
        x = sequence.after(index, x)
    out = []
    for n in range(sequence.painted):
        shift, scale = (state["head.modulation"][0, i] + vectors[n] for i in (0, 1))
        out.append(linear(state, "head.head", norm(x[n : n + 1]) * (1 + scale) + shift)[0])
    return torch.stack(out)


def picture(tokens: Tensor, channels: int, frames: int, h: int, w: int) -> Tensor:
    """Return latents (C, F, h, w) of the head's output (N, 4 * C)."""
    out = torch.zeros(channels, frames, h, w).double()
    for n, token in enumerate(tokens):
        f, r, c = n // (h * w // 4), n % (h * w // 4) // (w // 2), n % (w // 2)
        for i in range(2):
            for j in range(2):
                out[:, f, 2 * r + i, 2 * c + j] = token[(2 * i + j) * channels : (2 * i + j + 1) * channels]
    return out
