"""FantasyTalking: the text's queries also ask the sound of their own latent frame.

After Fantasy-AMAP/fantasy-talking, model.py and infer.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unisync.nets.attention import Attention, Told
from unisync.nets.transformer import Block, Condition, Transformer, TransformerConfig

CONTEXT = 2048
"""Width of the projected features."""
MORE = 4
"""Features that a latent frame hears to either side of its own."""


def hearing_range(features: int, frames: int) -> list[tuple[int, int]]:
    """Return the first and last feature that each latent frame hears, of features spread evenly over 4 * frames - 3.

    A latent frame's own are centred on its four film frames, and the first one's end where the second's begin.
    Raises ValueError for fewer than two latent frames, which leave the first one's place open.
    """
    if frames < 2:
        raise ValueError(f"FantasyTalking hears at least 2 latent frames at once, not {frames}; take a longer window")
    rate = features / (4 * frames - 3)
    half = int(4 * rate / 2)
    centres = [int((rate * (4 * k - 3) + rate * (4 * k + 1)) / 2) - 1 for k in range(1, frames)]
    own = [(centre - half, centre + half) for centre in centres]
    start = own[0][0]
    own.insert(0, (start - 2 * half, start))
    return [(max(first - MORE, 0), min(last + MORE, features - 1)) for first, last in own]


class FeatureProjection(nn.Module):
    """wav2vec's features (B, L, 768) -> (B, L, 2048)."""

    def __init__(self, into: int) -> None:
        super().__init__()
        self.proj = nn.Linear(into, CONTEXT, bias=False)
        self.norm = nn.LayerNorm(CONTEXT)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.proj(x))
        return out


class SoundAttention(Attention):
    """Attention over text and image whose queries ask sound as well; born deaf."""

    def __init__(self, width: int, heads: int, image: bool) -> None:
        super().__init__(width, heads, image=image)
        self.k_proj = nn.Linear(CONTEXT, width, bias=False)
        self.v_proj = nn.Linear(CONTEXT, width, bias=False)
        nn.init.zeros_(self.k_proj.weight)
        nn.init.zeros_(self.v_proj.weight)

    def ask(self, y: Tensor, q: Tensor, told: Told) -> Tensor:
        """Return answers y (B, heads, F * S, d) with the image's and the sound's added."""
        y = super().ask(y, q, told)
        if told.audio is None:
            return y
        at = torch.arange(told.audio.shape[1], device=q.device)
        first, last = torch.tensor(hearing_range(len(at), told.frames), device=q.device).T[..., None]
        mask = ((first <= at) & (at <= last)).repeat_interleave(q.shape[2] // told.frames, dim=0)
        k, v = self.split(self.k_proj(told.audio)), self.split(self.v_proj(told.audio))
        return y + F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


class FantasyBlock(Block):
    """Hears while it reads."""

    def add_audio(self, config: TransformerConfig) -> None:
        """Replace the text's attention by one that hears."""
        self.cross_attn = SoundAttention(config.width, config.heads, image=bool(config.image_width))

    def hear(self, x: Tensor, audio: Tensor) -> Tensor:
        """Return x as it is."""
        return x


class FantasyTalking(Transformer):
    """`Condition.audio` is (B, L, 768): wav2vec's last features over the film's frames, at whatever rate they come."""

    block = FantasyBlock

    def add_audio(self, config: TransformerConfig) -> None:
        """Build the projection of features."""
        self.proj_model = FeatureProjection(config.audio_width)

    def hear(self, condition: Condition) -> tuple[Tensor, None]:
        """Return (B, L, 2048), 0 where it is not told; each block cuts out what a latent frame hears.

        Raises ValueError if single frames are to be told.
        """
        assert condition.audio is not None
        heard, keep = self.proj_model(condition.audio), condition.keep_audio
        if keep is None:
            return heard, None
        if keep.ndim != 1:
            raise ValueError(f"FantasyTalking is told of a whole clip or not at all: keep_audio is {tuple(keep.shape)}")
        return heard * keep[:, None, None].to(heard.dtype), None
