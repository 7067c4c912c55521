"""MultiTalk and InfiniteTalk: every block hears one speaker, frame by frame.

After MeiGen-AI/InfiniteTalk, wan/modules/multitalk_model.py and attention.py; for several speakers at once they also ask
whose face a token is on, which is not done here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unisync.nets.attention import attend
from unisync.nets.transformer import Block, Condition, Transformer, TransformerConfig, kept

STATES = 12
"""Hidden states of wav2vec2-base that are heard, every layer's but the first input."""
FIRST, LATER = 5, 8
"""Film frames that a latent frame hears: two to either side of its own, and the first latent frame has one of its own."""
INNER, TOKENS = 512, 32


class SpeechProjection(nn.Module):
    """Hidden states around a latent frame -> the tokens that it attends to."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.proj1 = nn.Linear(FIRST * STATES * hidden, INNER)
        self.proj1_vf = nn.Linear(LATER * STATES * hidden, INNER)
        self.proj2 = nn.Linear(INNER, INNER)
        self.proj3 = nn.Linear(INNER, TOKENS * hidden)
        self.norm = nn.LayerNorm(hidden)

    def forward(self, audio: Tensor) -> Tensor:
        """Return (B, F, 32, hidden) from (B, F, 8 * 12, hidden); of the first latent frame only 5 * 12 are heard."""
        first = self.proj1(audio[:, :1, : FIRST * STATES].flatten(2))
        x = torch.cat([first, self.proj1_vf(audio[:, 1:].flatten(2))], dim=1)
        x = self.proj3(F.relu(self.proj2(F.relu(x)))).unflatten(-1, (TOKENS, -1))
        out: Tensor = self.norm(x)
        return out


class SpeechAttention(nn.Module):
    """Multi-head attention over speech, nothing normalised; born mute."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_linear = nn.Linear(width, width)
        self.kv_linear = nn.Linear(hidden, 2 * width)
        self.proj = nn.Linear(width, width)
        nn.init.zeros_(self.proj.weight)
        nn.init.zeros_(self.proj.bias)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Return (B, N, D) for tokens x (B, N, D) over context (B, M, hidden)."""
        three = (self.q_linear(x), *self.kv_linear(context).chunk(2, dim=-1))
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in three)
        out: Tensor = self.proj(attend(q, k, v).transpose(1, 2).flatten(2))
        return out


class MultiTalkBlock(Block):
    """Hears where ours does, between text and feed-forward."""

    def add_audio(self, config: TransformerConfig) -> None:
        """Build norm and attention under their names."""
        self.norm_x = nn.LayerNorm(config.width, eps=1e-6)
        self.audio_cross_attn = SpeechAttention(config.width, config.heads, config.audio_width)


class MultiTalk(Transformer):
    """`Condition.audio` is (B, F, 8 * 12, 768): wav2vec's states at the film's frames, all twelve of a frame together.

    Latent frame k > 0 stands for film frames 4k-3 to 4k and hears 4k-5 to 4k+2; latent frame 0 hears -2 to 2.
    """

    block = MultiTalkBlock

    def add_audio(self, config: TransformerConfig) -> None:
        """Build the projection of speech."""
        self.audio_proj = SpeechProjection(config.audio_width)

    def hear(self, condition: Condition) -> tuple[Tensor, None]:
        """Return the tokens that blocks attend to, (B, F, 32, 768)."""
        return self.audio_proj(kept(condition)), None
