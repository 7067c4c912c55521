"""The diffusion transformer, in Wan's shape and with Wan's names, from the embedded size to 14 billion parameters.

Shapes: B clips, F latent frames, h x w latents, S = h/ph * w/pw tokens a frame, N = F * S tokens, D width. Where
frames stand beside those that are painted, F counts both; the painted come first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from unisync.nets.attention import Attention, Rotary, Told, rotary_angles, rotary_table
from unisync.nets.patch import PatchEmbedding
from unisync.nets.pose import PoseEncoder


@dataclass(frozen=True)
class TransformerConfig:
    """What a transformer is. Defaults are the embedded one; `wan` gives the public sizes."""

    channels: int = 16
    """C of the latents."""
    editing: bool = True
    """Whether the patch embedding takes the source as well as the noisy latents (Eq 2)."""
    extra: int = 0
    """Channels of what else it takes, between the two: for I2V a mask (4) and the image's latents (16)."""
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
    image_width: int = 0
    """Width of CLIP's tokens of an image; 0: blind to them."""
    audio_width: int = 160
    """Width of the audio features; 0: deaf."""
    audio_tokens: int = 9
    """Audio features that a latent frame attends to."""
    audio_layers: tuple[int, ...] = (1, 3, 5)
    """Blocks with audio attention."""
    lip_width: int = 6
    """Lip parameters a frame that steer beside the audio tokens; 0: none."""
    pose_grid: tuple[int, int, int] | None = (8, 8, 8)
    """Resolution (frames, rows, columns) of the pose encoder's learnt positions; None: no pose encoder."""
    prediction: Literal["velocity", "data"] = "velocity"
    """What the head gives: the velocity, or the change from source to data."""

    @property
    def channels_in(self) -> int:
        """Channels that the patch embedding takes."""
        return self.channels + self.extra + (self.channels if self.editing else 0)

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
    audio: (B, F, A, audio_width), or as a public model's network says.  lips: (B, F, lip_width).
    text: (B, L, text_width).  keep_audio, keep_lips: (B,) or (B, F), 1 or 0.
    image: (B, L, image_width).  extra: (B, extra, F, h, w).
    reference: (B, C, R, h, w) clean latents beside the film, for networks that look at such.
    corner, whole: where the tokens begin in a whole picture's grid, and its rows and columns, if they are a part of it.
    """

    source: Tensor
    seconds: Tensor
    pose: Tensor | None = None
    audio: Tensor | None = None
    lips: Tensor | None = None
    text: Tensor | None = None
    keep_audio: Tensor | None = None
    keep_lips: Tensor | None = None
    image: Tensor | None = None
    extra: Tensor | None = None
    reference: Tensor | None = None
    corner: tuple[int, int] = (0, 0)
    whole: tuple[int, int] | None = None

    @property
    def tensors(self) -> dict[str, Any]:
        """The tensors, by their names."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}


class Beside(NamedTuple):
    """Clean frames that are looked at and not painted. tokens: (B, R, S, D).  times: (B, R) rotary positions."""

    tokens: Tensor
    times: Tensor
    corner: tuple[int, int] = (0, 0)
    """Row and column of the first token's rotary position."""


Run = Callable[[Tensor, Tensor, Rotary], Tensor]
"""Tokens (B, F, S, D), what modulates them (B, F, 6, D) and their places -> tokens as they leave the last block."""


class Passage(Protocol):
    """What stands between a transformer and its blocks: it runs them, or on other tokens, or does not."""

    def __call__(self, run: Run, x: Tensor, steer: Tensor, rotary: Rotary) -> Tensor: ...


class Block(nn.Module):
    """Self-attention over the clip, text, then audio frame by frame, then a feed-forward; modulated by the noise level."""

    def __init__(self, config: TransformerConfig, audio: bool) -> None:
        super().__init__()
        width = config.width
        self.norm1 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.self_attn = Attention(width, config.heads)
        if config.text_width:
            self.norm3 = nn.LayerNorm(width, eps=1e-6)
            self.cross_attn = Attention(width, config.heads, image=bool(config.image_width))
        if audio:
            self.add_audio(config)
        self.norm2 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.ffn = nn.Sequential(
            nn.Linear(width, config.ffn), nn.GELU(approximate="tanh"), nn.Linear(config.ffn, width)
        )
        self.modulation = nn.Parameter(torch.zeros(1, 6, width))

    def forward(self, x: Tensor, steer: Tensor, rotary: Rotary, told: Told) -> Tensor:
        """Return tokens like x (B, F, S, D). steer: (B, F, 6, D)."""
        shape = x.shape
        rows = (self.modulation + steer).to(x.dtype).unsqueeze(3).unbind(2)  # six of (B, F, 1, D)
        y = torch.addcmul(rows[0], self.norm1(x), 1 + rows[1])
        x = torch.addcmul(x, self.self_attn(y.flatten(1, 2), rotary=rotary).view(shape), rows[2])
        if told.text is not None:
            x = self.read(x, told)
        if told.audio is not None:
            x = self.hear(x, told.audio)
        y = torch.addcmul(rows[3], self.norm2(x), 1 + rows[4])
        return torch.addcmul(x, self.ffn(y), rows[5])

    def add_audio(self, config: TransformerConfig) -> None:
        """Build what hears."""
        self.norm_x = nn.LayerNorm(config.width, eps=1e-6)
        attention = Attention(config.width, config.heads)
        nn.init.zeros_(attention.o.weight)
        nn.init.zeros_(attention.o.bias)
        self.audio_cross_attn: nn.Module = attention

    def read(self, x: Tensor, told: Told) -> Tensor:
        """Return tokens x (B, F, S, D) after they have attended to the text, and to an image if there is one."""
        return x + self.cross_attn(self.norm3(x).flatten(1, 2), context=told.text, told=told).view(x.shape)

    def hear(self, x: Tensor, audio: Tensor) -> Tensor:
        """Return tokens x (B, F, S, D) after each frame's have attended to its audio (B, F, A, D)."""
        heard = self.audio_cross_attn(self.norm_x(x).flatten(0, 1), context=audio.flatten(0, 1))
        return x + heard.view(x.shape)


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


class ImageProjection(nn.Module):
    """CLIP's tokens of an image (B, L, image_width) -> (B, L, D)."""

    def __init__(self, into: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(
            nn.LayerNorm(into), nn.Linear(into, into), nn.GELU(), nn.Linear(into, width), nn.LayerNorm(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.proj(x)
        return out


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
    """The velocity network: noisy latents, noise level and condition -> velocity (or change from the source).

    Public models that hear in other ways replace `block` and the methods from `add_audio` to `after`.
    """

    block: ClassVar[type[Block]] = Block

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.patch_embedding = PatchEmbedding(config.channels_in, width, config.patch)
        self.time_embedding = nn.Sequential(nn.Linear(config.frequencies, width), nn.SiLU(), nn.Linear(width, width))
        steer = nn.Linear(width, 6 * width)
        nn.init.zeros_(steer.weight)
        nn.init.zeros_(steer.bias)
        self.time_projection = nn.Sequential(nn.SiLU(), steer)
        if config.text_width:
            self.text_embedding = nn.Sequential(
                nn.Linear(config.text_width, width), nn.GELU(approximate="tanh"), nn.Linear(width, width)
            )
        if config.image_width:
            self.img_emb = ImageProjection(config.image_width, width)
        if config.audio_width:
            self.add_audio(config)
        if config.pose_grid is not None:
            self.pose_encoder = PoseEncoder(config.channels, width, config.patch, config.pose_grid)
        self.blocks = nn.ModuleList(
            [self.block(config, bool(config.audio_width) and i in config.audio_layers) for i in range(config.layers)]
        )
        self.head = Head(config)
        self.passages: list[Passage] = []

    def forward(self, z: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        """Return (B, C, F, h, w) for noisy latents z (B, C, F, h, w) at levels sigma (B,) or (B, F).

        Raises ValueError if the latents and what stands beside them have not the channels that the network takes.
        """
        config = self.config
        head_width = config.width // config.heads
        given = [part for part in (condition.extra, condition.source if config.editing else None) if part is not None]
        into = torch.cat([z, *given], dim=1)  # Eq 2
        if into.shape[1] != config.channels_in:
            raise ValueError(
                f"the network takes {config.channels_in} channels and was given {into.shape[1]}: "
                f"`Condition.extra` must have {config.extra}"
            )
        x = self.place(self.patch_embedding(into), condition)  # Eq 8
        grid = (x.shape[1], x.shape[2], x.shape[3])
        x = x.flatten(2, 3)
        level = self.level(sigma, x.dtype).expand(-1, grid[0], -1)
        audio = None
        if config.audio_width and condition.audio is not None:
            audio, heard = self.hear(condition)
            level = level if heard is None else level + heard
        angles = rotary_angles(condition.seconds * config.positions_per_second, grid, head_width, condition.corner)
        levels = level
        if condition.reference is not None and (beside := self.beside(condition)) is not None:
            x = torch.cat([x, beside.tokens], dim=1)
            clean = self.level(sigma.new_zeros(len(x)), x.dtype).expand(-1, beside.tokens.shape[1], -1)
            levels = torch.cat([level, clean], dim=1)
            size = (beside.tokens.shape[1], *grid[1:])
            angles = torch.cat([angles, rotary_angles(beside.times, size, head_width, beside.corner)], dim=1)
        steer = self.time_projection(levels).unflatten(-1, (6, -1))
        rotary = rotary_table(angles, x.dtype)
        text = image = None
        if config.text_width and condition.text is not None:
            text = self.text_embedding(condition.text)
        if config.image_width and condition.image is not None:
            image = self.img_emb(condition.image)
        run: Run = partial(self.through, Told(audio, text, image, grid[0]))
        for passage in reversed(self.passages):
            run = partial(passage, run)
        x = run(x, steer, rotary)
        return self._unpatch(self.head(x[:, : grid[0]], level), grid)

    def through(self, told: Told, x: Tensor, steer: Tensor, rotary: Rotary) -> Tensor:
        """Return tokens x (B, F, S, D) after all blocks."""
        deaf = told._replace(audio=None)
        for i, block in enumerate(self.blocks):
            x = block(x, steer, rotary, told if i in self.config.audio_layers else deaf)
            x = self.after(i, x, told.audio) if told.audio is not None else x
        return x

    def look(self, latents: Tensor) -> Tensor:
        """Return tokens (B, R, S, D) of latents (B, C, R, h, w) that stand beside the film."""
        b, c, *size = latents.shape
        rest = latents.new_zeros(b, self.config.channels_in - c, *size)
        tokens: Tensor = self.patch_embedding(torch.cat([latents, rest], dim=1))
        return tokens.flatten(2, 3)

    def level(self, sigma: Tensor, dtype: torch.dtype) -> Tensor:
        """Return what says the noise levels sigma (B,) or (B, F): (B, 1 or F, D)."""
        out: Tensor = self.time_embedding(frequencies(sigma * 1000, self.config.frequencies).to(dtype))
        return out[:, None] if sigma.ndim == 1 else out

    def add_audio(self, config: TransformerConfig) -> None:
        """Build what the blocks' audio comes through."""
        self.audio_projection = AudioProjection(config)

    def place(self, x: Tensor, condition: Condition) -> Tensor:
        """Return patch tokens x (B, F, h', w', D) with the pose's added (Eq 9)."""
        if condition.pose is None or self.config.pose_grid is None:
            return x
        return x + self.pose_encoder(condition.pose, condition.corner, condition.whole).to(x.dtype)

    def hear(self, condition: Condition) -> tuple[Tensor, Tensor | None]:
        """Return what the blocks attend to, (B, F, A, D), and a vector (B, F, D) that joins the noise level."""
        heard: tuple[Tensor, Tensor] = self.audio_projection(condition)
        return heard

    def beside(self, condition: Condition) -> Beside | None:
        """Return the reference as frames beside those that are painted; None: this network looks at none."""
        return None

    def after(self, index: int, x: Tensor, audio: Tensor) -> Tensor:
        """Return tokens x (B, F, S, D) as they leave the block of this index."""
        return x

    def _unpatch(self, x: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """Return (B, C, F, h, w) from the head's (B, F', S, pf * ph * pw * C)."""
        pf, ph, pw = self.config.patch
        f, h, w = grid
        x = x.reshape(len(x), f, h, w, pf, ph, pw, self.config.channels).permute(0, 7, 1, 4, 2, 5, 3, 6)
        return x.reshape(len(x), self.config.channels, f * pf, h * ph, w * pw)


def frequencies(value: Tensor, num: int) -> Tensor:
    """Return the sinusoidal embedding float32 (..., num) of values (...)."""
    half = num // 2
    scale = torch.exp(-math.log(10000) * torch.arange(half, device=value.device, dtype=torch.float32) / half)
    angle = value.float()[..., None] * scale
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def kept(condition: Condition) -> Tensor:
    """Return the audio (B, F, A, C) with zeros where it is not told, as public models are taught silence."""
    assert condition.audio is not None
    if condition.keep_audio is None:
        return condition.audio
    return condition.audio * _mask(condition.keep_audio, condition.audio)[..., None].to(condition.audio.dtype)


def _mask(keep: Tensor | None, tokens: Tensor) -> Tensor:
    """Return keep as (B, F, 1), ones when it is None."""
    if keep is None:
        return tokens.new_ones(*tokens.shape[:2], 1)
    if keep.ndim == 1:
        keep = keep[:, None].expand(-1, tokens.shape[1])
    return keep[..., None]
