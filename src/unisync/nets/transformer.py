"""The diffusion transformer, in Wan's shape and with Wan's names, from the embedded size to 14 billion parameters.

Shapes: B clips, F latent frames, h x w latents, S = h/ph * w/pw tokens a frame, N = F * S tokens, D width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unisync.nets.patch import PatchEmbedding
from unisync.nets.pose import PoseEncoder


@dataclass(frozen=True)
class TransformerConfig:
    """What a transformer is. Defaults are the embedded one; `wan` gives the public sizes."""

    channels: int = 16
    """C of the latents; the patch embedding takes 2C: noisy and source (Eq 2)."""
    patch: tuple[int, int, int] = (1, 2, 2)
    width: int = 256
    layers: int = 6
    heads: int = 4
    ffn: int = 1024
    frequencies: int = 256
    positions_per_second: float = 25.0
    """Rotary positions along time are seconds times this, so any frame rate works."""
    text_width: int = 0
    """0: no text cross-attention."""
    audio_width: int = 160
    """Width of the audio features; 0: deaf."""
    audio_tokens: int = 9
    """Audio features that a latent frame attends to."""
    audio_layers: tuple[int, ...] = (1, 3, 5)
    """Blocks with audio attention."""
    lip_width: int = 6
    """Lip parameters a frame that steer beside the audio tokens; 0: none."""
    pose_grid: tuple[int, int, int] = (8, 8, 8)
    """Resolution (frames, rows, columns) of the pose encoder's learnt positions."""
    prediction: Literal["velocity", "data"] = "velocity"
    """What the head gives: the velocity, or the change from source to data."""

    @classmethod
    def wan(cls, size: Literal["1.3B", "5B", "14B"]) -> TransformerConfig:
        """Return the public Wan shapes (Wan2.1-1.3B, Wan2.2-5B, Wan2.1-14B) with this model's audio and pose parts."""
        width, layers, heads, ffn, channels = {
            "1.3B": (1536, 30, 12, 8960, 16),
            "5B": (3072, 30, 24, 14336, 48),
            "14B": (5120, 40, 40, 13824, 16),
        }[size]
        return cls(
            channels=channels,
            width=width,
            layers=layers,
            heads=heads,
            ffn=ffn,
            positions_per_second=4.0,
            text_width=4096,
            audio_width=768,
            audio_layers=tuple(range(layers)),
            lip_width=0,
            pose_grid=(21, 30, 52),
        )


@dataclass(frozen=True, eq=False)
class Condition:
    """What steers the picture. None, or a 0 in `keep_*`, means: not told.

    source: (B, C, F, h, w) latents of the film.  seconds: (B, F).  pose: (B, C, F, h, w) latents of the pose video.
    audio: (B, F, A, audio_width).  lips: (B, F, lip_width).  text: (B, L, text_width).
    keep_audio, keep_lips: (B,) or (B, F), 1 or 0.
    """

    source: Tensor
    seconds: Tensor
    pose: Tensor | None = None
    audio: Tensor | None = None
    lips: Tensor | None = None
    text: Tensor | None = None
    keep_audio: Tensor | None = None
    keep_lips: Tensor | None = None


Rotary = tuple[Tensor, Tensor]
SHORT_CONTEXT = 1024
"""Keys up to which plain products train faster on a CPU than the fused kernel, whose backward is slow there."""


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

    def __init__(self, width: int, heads: int, context_width: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(context_width or width, width)
        self.v = nn.Linear(context_width or width, width)
        self.o = nn.Linear(width, width)
        self.norm_q = QkNorm(width, eps=1e-6)
        self.norm_k = QkNorm(width, eps=1e-6)

    def forward(self, x: Tensor, context: Tensor | None = None, rotary: Rotary | None = None) -> Tensor:
        """Return (B, N, D). context: (B, M, context_width).  rotary: as `rotary_table` gives it."""
        source = x if context is None else context
        q, k, v = self.norm_q(self.q(x)), self.norm_k(self.k(source)), self.v(source)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        if rotary is not None:
            q, k = rotate(q, rotary), rotate(k, rotary)
        y = attend(q, k, v)
        out: Tensor = self.o(y.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """Self-attention over the clip, text, then audio frame by frame, then a feed-forward; modulated by the noise level."""

    def __init__(self, config: TransformerConfig, audio: bool) -> None:
        super().__init__()
        width = config.width
        self.norm1 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.self_attn = Attention(width, config.heads)
        if config.text_width:
            self.norm3 = nn.LayerNorm(width, eps=1e-6)
            self.cross_attn = Attention(width, config.heads)
        if audio:
            self.norm_x = nn.LayerNorm(width, eps=1e-6)
            self.audio_cross_attn = Attention(width, config.heads)
            nn.init.zeros_(self.audio_cross_attn.o.weight)
            nn.init.zeros_(self.audio_cross_attn.o.bias)
        self.norm2 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.ffn = nn.Sequential(
            nn.Linear(width, config.ffn), nn.GELU(approximate="tanh"), nn.Linear(config.ffn, width)
        )
        self.modulation = nn.Parameter(torch.zeros(1, 6, width))

    def forward(self, x: Tensor, steer: Tensor, rotary: Rotary, audio: Tensor | None, text: Tensor | None) -> Tensor:
        """Return tokens like x (B, F, S, D). steer: (B, F, 6, D).  audio: (B, F, A, D).  text: (B, L, D)."""
        shape = x.shape
        rows = (self.modulation + steer).to(x.dtype).unsqueeze(3).unbind(2)  # six of (B, F, 1, D)
        y = torch.addcmul(rows[0], self.norm1(x), 1 + rows[1])
        x = torch.addcmul(x, self.self_attn(y.flatten(1, 2), rotary=rotary).view(shape), rows[2])
        if text is not None:
            x = x + self.cross_attn(self.norm3(x).flatten(1, 2), context=text).view(shape)
        if audio is not None:
            heard = self.audio_cross_attn(self.norm_x(x).flatten(0, 1), context=audio.flatten(0, 1))
            x = x + heard.view(shape)
        y = torch.addcmul(rows[3], self.norm2(x), 1 + rows[4])
        return torch.addcmul(x, self.ffn(y), rows[5])


class AudioProjection(nn.Module):
    """Audio features and lip parameters of a frame -> tokens to attend to and one vector that joins the noise level."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.proj = nn.Linear(config.audio_width, width)
        self.norm = nn.LayerNorm(width)
        self.offset = nn.Parameter(torch.randn(config.audio_tokens, width) * 0.02)
        self.squeeze = nn.Linear(width, 32)
        self.pool = nn.Linear(32 * config.audio_tokens, width)
        self.null_audio = nn.Parameter(torch.zeros(width))
        self.lips = (
            nn.Sequential(nn.Linear(config.lip_width, width), nn.SiLU(), nn.Linear(width, width))
            if config.lip_width
            else None
        )
        self.null_lips = nn.Parameter(torch.zeros(width))

    def forward(self, condition: Condition) -> tuple[Tensor, Tensor]:
        """Return tokens (B, F, A [+ 1], D) and a vector (B, F, D)."""
        assert condition.audio is not None
        tokens = self.norm(self.proj(condition.audio))
        keep = _mask(condition.keep_audio, tokens)
        tokens = torch.where(keep[..., None] > 0, tokens, self.null_audio) + self.offset
        vector = self.pool(self.squeeze(tokens).flatten(2))
        if self.lips is None:
            return tokens, vector
        assert condition.lips is not None
        lips = torch.where(_mask(condition.keep_lips, tokens) > 0, self.lips(condition.lips), self.null_lips)
        return torch.cat([tokens, lips[:, :, None]], dim=2), vector + lips


class Head(nn.Module):
    """The last projection, modulated by the noise level alone."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width, eps=1e-6, elementwise_affine=False)
        self.head = nn.Linear(config.width, config.channels * math.prod(config.patch))
        self.modulation = nn.Parameter(torch.zeros(1, 2, config.width))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """Return (B, F, S, C * patch). level: (B, F, D)."""
        shift, scale = (self.modulation + level[:, :, None]).unsqueeze(3).unbind(2)
        out: Tensor = self.head(self.norm(x) * (1 + scale) + shift)
        return out


class Transformer(nn.Module):
    """The velocity network: noisy latents, noise level and condition -> velocity (or change from the source)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.patch_embedding = PatchEmbedding(2 * config.channels, width, config.patch)
        self.time_embedding = nn.Sequential(nn.Linear(config.frequencies, width), nn.SiLU(), nn.Linear(width, width))
        steer = nn.Linear(width, 6 * width)
        nn.init.zeros_(steer.weight)
        nn.init.zeros_(steer.bias)
        self.time_projection = nn.Sequential(nn.SiLU(), steer)
        if config.text_width:
            self.text_embedding = nn.Sequential(
                nn.Linear(config.text_width, width), nn.GELU(approximate="tanh"), nn.Linear(width, width)
            )
        self.audio_projection = AudioProjection(config) if config.audio_width else None
        self.pose_encoder = PoseEncoder(config.channels, width, config.patch, config.pose_grid)
        self.blocks = nn.ModuleList(
            [Block(config, bool(config.audio_width) and i in config.audio_layers) for i in range(config.layers)]
        )
        self.head = Head(config)

    def forward(self, z: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        """Return (B, C, F, h, w) for noisy latents z (B, C, F, h, w) at levels sigma (B,)."""
        config = self.config
        x = self.patch_embedding(torch.cat([z, condition.source], dim=1))  # Eq 2, Eq 8
        grid = x.shape[1:4]
        if condition.pose is not None:
            x = x + self.pose_encoder(condition.pose).to(x.dtype)  # Eq 9
        x = x.flatten(2, 3)
        level = self.time_embedding(frequencies(sigma * 1000, config.frequencies).to(x.dtype))[:, None]
        level = level.expand(-1, grid[0], -1)
        audio = None
        if self.audio_projection is not None and condition.audio is not None:
            audio, heard = self.audio_projection(condition)
            level = level + heard
        steer = self.time_projection(level).unflatten(-1, (6, -1))
        angles = rotary_angles(condition.seconds * config.positions_per_second, grid, config.width // config.heads)
        rotary = rotary_table(angles, x.dtype)
        text = None
        if config.text_width and condition.text is not None:
            text = self.text_embedding(condition.text)
        for i, block in enumerate(self.blocks):
            x = block(x, steer, rotary, audio if i in config.audio_layers else None, text)
        return self._unpatch(self.head(x, level), (grid[0], grid[1], grid[2]))

    def _unpatch(self, x: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """Return (B, C, F, h, w) from the head's (B, F', S, pf * ph * pw * C)."""
        pf, ph, pw = self.config.patch
        f, h, w = grid
        x = x.reshape(len(x), f, h, w, pf, ph, pw, self.config.channels).permute(0, 7, 1, 4, 2, 5, 3, 6)
        return x.reshape(len(x), self.config.channels, f * pf, h * ph, w * pw)


def frequencies(value: Tensor, num: int) -> Tensor:
    """Return the sinusoidal embedding float32 (B, num) of values (B,)."""
    half = num // 2
    scale = torch.exp(-math.log(10000) * torch.arange(half, device=value.device, dtype=torch.float32) / half)
    angle = value.float()[:, None] * scale
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def rotary_angles(times: Tensor, grid: tuple[int, int, int] | torch.Size, head_width: int) -> Tensor:
    """Return angles float32 (B, N, head_width / 2) for times (B, F) in positions and the token grid (F, rows, columns).

    A head's pairs are shared out as Wan does: time gets what rows and columns, a third each, leave over.
    """
    _, rows, columns = grid
    across = 2 * (head_width // 6)
    along = head_width - 2 * across

    def rates(num: int) -> Tensor:
        return 10000.0 ** (-torch.arange(0, num, 2, device=times.device, dtype=torch.float32) / num)

    batch, frames = times.shape
    time = times.float()[..., None] * rates(along)
    row = torch.arange(rows, device=times.device)[:, None] * rates(across)
    column = torch.arange(columns, device=times.device)[:, None] * rates(across)
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


def expand_patch_embedding(weight: Tensor, channels: int) -> Tensor:
    """Return weight (D, channels, ...) with zeros for the channels that the base model did not have (Eq 2).

    The expanded embedding gives the base model's tokens bit for bit until training moves the new half.
    Raises ValueError if the base model has more channels already.
    """
    missing = channels - weight.shape[1]
    if missing < 0:
        raise ValueError(f"the base model's patch embedding has {weight.shape[1]} channels, more than {channels}")
    new = weight.new_zeros(weight.shape[0], missing, *weight.shape[2:])
    return torch.cat([weight, new], dim=1)


def _mask(keep: Tensor | None, tokens: Tensor) -> Tensor:
    """Return keep as (B, F, 1), ones when it is None."""
    if keep is None:
        return tokens.new_ones(*tokens.shape[:2], 1)
    if keep.ndim == 1:
        keep = keep[:, None].expand(-1, tokens.shape[1])
    return keep[..., None]
