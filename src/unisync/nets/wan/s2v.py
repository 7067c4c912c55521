"""Wan2.2-S2V and TalkVerse: sound is laid over some blocks' outputs, a reference picture stands beside the film.

After Wan-Video/Wan2.2, wan/modules/s2v, and snap-research/TalkVerse, model_s2v_5b.py.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unisync.nets.attention import Attention
from unisync.nets.patch import PatchEmbedding
from unisync.nets.transformer import Beside, Block, Condition, Transformer, TransformerConfig, kept

STATES = 25
"""Hidden states of wav2vec2-large-xlsr-53 that are weighed against one another."""
FILM_FRAMES = 4
"""Film frames of a latent frame; also the local tokens that come of them."""


class CausalConv(nn.Module):
    """A convolution over time (B, T, C) that hears the past alone; the first moment stands for what was before."""

    def __init__(self, into: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(into, out, kernel_size=3, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.pad(x.transpose(1, 2), (2, 0), mode="replicate"))
        return out.transpose(1, 2)


class MotionEncoder(nn.Module):
    """Sound at the film's frames -> tokens at a quarter of their rate: five local and one global."""

    def __init__(self, into: int, width: int) -> None:
        super().__init__()
        self.conv1_local = CausalConv(into, width // 4 * FILM_FRAMES)
        self.conv1_global = CausalConv(into, width // 4)
        self.conv2 = CausalConv(width // 4, width // 2, stride=2)
        self.conv3 = CausalConv(width // 2, width, stride=2)
        self.final_linear = nn.Linear(width, width)
        self.padding_tokens = nn.Parameter(torch.zeros(1, 1, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens (B, T / 4, 1 + 5, D), the global first, from sound (B, T, C)."""
        local = self.conv1_local(x).unflatten(-1, (FILM_FRAMES, -1)).transpose(1, 2).flatten(0, 1)
        local = self._shrink(local).unflatten(0, (len(x), -1)).transpose(1, 2)
        whole = self.final_linear(self._shrink(self.conv1_global(x)))[:, :, None]
        return torch.cat([whole, local, self.padding_tokens.to(x.dtype).expand_as(whole)], dim=2)

    def _shrink(self, x: Tensor) -> Tensor:
        """Return (B, T / 4, D) from (B, T, D / 4)."""
        for conv in (self.conv2, self.conv3):
            x = conv(_calm(x))
        return _calm(x)


class CausalAudioEncoder(nn.Module):
    """wav2vec's hidden states, weighed, then encoded."""

    def __init__(self, into: int, width: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.full((1, STATES, 1, 1), 0.01))
        self.encoder = MotionEncoder(into, width)

    def forward(self, audio: Tensor) -> Tensor:
        """Return tokens (B, F, 1 + 5, D) from (B, F, 4 * 25, C)."""
        weights = F.silu(self.weights).view(STATES, 1)
        states = audio.unflatten(2, (FILM_FRAMES, STATES)).flatten(1, 2)  # (B, T, 25, C)
        x = (states * weights / weights.sum()).sum(dim=2)
        # The first film frame's sound stands for the past. The authors put 73 of it before; the convolutions go on from
        # one in the same way.
        tokens: Tensor = self.encoder(torch.cat([x[:, :1], x], dim=1))
        return tokens[:, 1:]


class AdaptiveNorm(nn.Module):
    """A layer norm whose shift and scale the global token says."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 2 * width)

    def forward(self, x: Tensor, said: Tensor) -> Tensor:
        """Return tokens like x (B, N, D). said: (B, D)."""
        shift, scale = self.linear(F.silu(said))[:, None].chunk(2, dim=-1)
        return F.layer_norm(x, x.shape[-1:], eps=1e-5) * (1 + scale) + shift


class AudioInjector(nn.Module):
    """For each block that hears, a norm and an attention, born mute."""

    def __init__(self, num: int, width: int, heads: int) -> None:
        super().__init__()
        self.injector = nn.ModuleList([Attention(width, heads) for _ in range(num)])
        self.injector_adain_layers = nn.ModuleList([AdaptiveNorm(width) for _ in range(num)])
        for attention in self.injector:
            for parameter in attention.get_submodule("o").parameters():
                nn.init.zeros_(parameter)

    def forward(self, index: int, x: Tensor, audio: Tensor) -> Tensor:
        """Return what is added to tokens x (B, N, D). audio: (B, 1 + 5, D)."""
        heard: Tensor = self.injector[index](self.injector_adain_layers[index](x, audio[:, 0]), context=audio[:, 1:])
        return heard


class FramePacker(nn.Module):
    """Embeddings of what was painted before, the farther back the coarser.

    They are in the file and not asked here: the authors leave what went before out of a first window, and a window that
    is dubbed starts from its own film.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.proj = PatchEmbedding(channels, width, (1, 2, 2))
        self.proj_2x = PatchEmbedding(channels, width, (2, 4, 4))
        self.proj_4x = PatchEmbedding(channels, width, (4, 8, 8))


class SpeechBlock(Block):
    """Wan's own block: sound comes after it."""

    def add_audio(self, config: TransformerConfig) -> None:
        """Build nothing."""

    def hear(self, x: Tensor, audio: Tensor) -> Tensor:
        """Return x as it is."""
        return x


class TalkVerse(Transformer):
    """`Condition.audio` is (B, F, 4 * 25, 1024): wav2vec's states at the film's frames, all 25 of a frame together.

    `reference` is (B, C, 1, h, w), a picture of the speaker.
    """

    block = SpeechBlock
    reference_at: ClassVar[float] = 40.0
    """Rotary position of the reference along time."""

    def add_audio(self, config: TransformerConfig) -> None:
        """Build what hears, and what marks painted and reference tokens."""
        width = config.width
        self.casual_audio_encoder = CausalAudioEncoder(config.audio_width, width)  # the authors' spelling
        self.audio_injector = AudioInjector(len(config.audio_layers), width, config.heads)
        self.trainable_cond_mask = nn.Embedding(3, width)  # painted, reference, painted before
        self.frame_packer = FramePacker(config.channels, width)
        nn.init.zeros_(self.trainable_cond_mask.weight)

    def place(self, x: Tensor, condition: Condition) -> Tensor:
        """Return patch tokens x (B, F, h', w', D) with the pose's and the mark of the painted added."""
        return super().place(x, condition) + self.trainable_cond_mask.weight[0].to(x.dtype)

    def hear(self, condition: Condition) -> tuple[Tensor, None]:
        """Return the tokens that blocks' outputs attend to, (B, F, 1 + 5, D)."""
        return self.casual_audio_encoder(kept(condition)), None

    def beside(self, condition: Condition) -> Beside:
        """Return the reference."""
        assert condition.reference is not None
        tokens = self.look(condition.reference)
        tokens = tokens + self.trainable_cond_mask.weight[1].to(tokens.dtype)
        return Beside(tokens, condition.seconds.new_full(tokens.shape[:2], self.reference_at))

    def after(self, index: int, x: Tensor, audio: Tensor) -> Tensor:
        """Return tokens x (B, F, S, D) with the sound laid over the painted frames'."""
        if index not in self.config.audio_layers:
            return x
        painted, clean = x[:, : audio.shape[1]], x[:, audio.shape[1] :]
        at = self.config.audio_layers.index(index)
        heard = self.audio_injector(at, painted.flatten(0, 1), audio.flatten(0, 1))
        return torch.cat([painted + heard.view(painted.shape), clean], dim=1)


class SpeechToVideo(TalkVerse):
    """Wan2.2-S2V, which has a pose encoder of its own: PAFS without norm and gate."""

    reference_at = 30.0

    def add_audio(self, config: TransformerConfig) -> None:
        """Build the pose encoder as well, born at zero."""
        super().add_audio(config)
        self.cond_encoder = PatchEmbedding(config.channels, config.width, config.patch)
        nn.init.zeros_(self.cond_encoder.weight)
        assert self.cond_encoder.bias is not None
        nn.init.zeros_(self.cond_encoder.bias)

    def place(self, x: Tensor, condition: Condition) -> Tensor:
        """Return patch tokens x (B, F, h', w', D) with those of the pose, or of none at all, added."""
        pose = torch.zeros_like(condition.source) if condition.pose is None else condition.pose
        placed: Tensor = super().place(x, condition) + self.cond_encoder(pose).to(x.dtype)
        return placed


def _calm(x: Tensor) -> Tensor:
    """Return x (..., C) normalised and bent."""
    return F.silu(F.layer_norm(x, x.shape[-1:], eps=1e-6))
