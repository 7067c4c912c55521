"""X-Dub: the film stands beside the one that is painted, clean, and every block hears for the painted frames alone.

After X-Dub's release, wan_video_dit_lip_sync.py, audio_modules.py and lip_sync.py.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unisync.nets.attention import Attention, Told, attend
from unisync.nets.transformer import Beside, Block, Condition, Transformer, TransformerConfig, kept

LAYERS, HEAD_WIDTH, LONGEST = 4, 64, 100


class Positions(nn.Module):
    """Sines and cosines of the place in a row, added; the table is in the file."""

    def __init__(self, width: int) -> None:
        super().__init__()
        at = torch.arange(LONGEST)[:, None] * torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
        self.register_buffer("pe", torch.stack([at.sin(), at.cos()], dim=-1).flatten(1)[None])

    def forward(self, x: Tensor) -> Tensor:
        table = self.get_buffer("pe")
        return x + table[:, : x.shape[1]]


class FeatureAttention(nn.Module):
    """Attention of a latent frame's features over one another."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(width, width, bias=False)
        self.to_v = nn.Linear(width, width, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor) -> Tensor:
        three = (to(x).unflatten(-1, (-1, HEAD_WIDTH)).transpose(1, 2) for to in (self.to_q, self.to_k, self.to_v))
        out: Tensor = self.to_out[0](attend(*three).transpose(1, 2).flatten(2))
        return out


class Gate(nn.Module):
    """A linear layer's first half, passed as far as the other half says."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 2 * out)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """A gated layer four times as wide, and back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(Gate(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out


class FeatureLayer(nn.Module):
    """Features of a latent frame ask one another, then each is worked on."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = FeatureAttention(width)
        self.norm2 = nn.LayerNorm(width)
        self.ff = FeedForward(width)
        self.pos_embed = Positions(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.pos_embed(self.norm1(x)))
        out: Tensor = x + self.ff(self.norm2(x))
        return out


class AudioEmbedding(nn.Module):
    """Features (B, F, A, 2048) -> tokens (B, F, A, D)."""

    def __init__(self, into: int, inner: int, width: int) -> None:
        super().__init__()
        self.proj_in = nn.Linear(into, inner)
        self.layers = nn.ModuleList([FeatureLayer(inner) for _ in range(LAYERS)])
        self.proj_out = nn.Linear(inner, width)

    def forward(self, audio: Tensor) -> Tensor:
        x = self.proj_in(audio).flatten(0, 1)
        for layer in self.layers:
            x = layer(x)
        out: Tensor = self.proj_out(x).unflatten(0, audio.shape[:2])
        return out


class XDubBlock(Block):
    """Reads and hears for the painted frames alone."""

    def add_audio(self, config: TransformerConfig) -> None:
        """Build norm and attention under their names, born mute."""
        self.norm4 = nn.LayerNorm(config.width, eps=1e-6)
        self.audio_attn = Attention(config.width, config.heads)
        nn.init.zeros_(self.audio_attn.o.weight)
        nn.init.zeros_(self.audio_attn.o.bias)

    def read(self, x: Tensor, told: Told) -> Tensor:
        """Return tokens x (B, F, S, D) after the painted frames' have attended to the text."""
        return torch.cat([super().read(x[:, : told.frames], told), x[:, told.frames :]], dim=1)

    def hear(self, x: Tensor, audio: Tensor) -> Tensor:
        """Return tokens x (B, F, S, D) after each painted frame's have attended to its audio (B, F, A, D)."""
        painted, clean = x[:, : audio.shape[1]], x[:, audio.shape[1] :]
        heard = self.audio_attn(self.norm4(painted).flatten(0, 1), context=audio.flatten(0, 1))
        return torch.cat([painted + heard.view(painted.shape), clean], dim=1)


class XDub(Transformer):
    """`Condition.audio` is (B, F, 8, 1280 + 768), Whisper's features and wav2vec's; `reference` the film, as long as z.

    The film's frames have the times of those that are painted, and stand one picture further down and right.
    """

    block = XDubBlock
    inner: ClassVar[int] = 1536
    """Width of the audio embedding."""

    def add_audio(self, config: TransformerConfig) -> None:
        """Build the audio embedding."""
        self.audio_embedding = AudioEmbedding(config.audio_width, self.inner, config.width)

    def hear(self, condition: Condition) -> tuple[Tensor, None]:
        """Return the tokens that blocks attend to, (B, F, 8, D)."""
        return self.audio_embedding(kept(condition)), None

    def beside(self, condition: Condition) -> Beside:
        """Return the film's frames."""
        assert condition.reference is not None
        _, _, num, h, w = condition.reference.shape
        times = condition.seconds[:, :num] * self.config.positions_per_second
        _, ph, pw = self.config.patch
        return Beside(self.look(condition.reference), times, (h // ph, w // pw))
