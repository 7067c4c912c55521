"""Bootstrapped sources: every clip as the present network dubs it with other speech. The clip itself is then the target."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from torch import Tensor

from unisync.audio.moments import at_moments, token_moments
from unisync.errors import OptionError
from unisync.nets.transformer import Condition, Transformer
from unisync.training.clips import Clip
from unisync.training.painting import paint, start_noise
from unisync.whole import whole

WINDOWS = 8
"""Windows painted at once."""


def make_redubs(clips: list[Clip], speeches: list[Clip], network: Transformer, frames: int, out: Path) -> None:
    """Write OUT/KEY.pt, latents float16 (T, C, h, w), for every clip; what is there already is kept.

    speeches: clips to take other speech from; those without sound are passed over.
    """
    spoken = [clip for clip in speeches if clip.features is not None]
    if len(spoken) < 2:
        raise OptionError("redubs need two clips with speech or more: prepare a larger dataset")
    out.mkdir(parents=True, exist_ok=True)
    for clip in clips:
        goal = out / f"{clip.key}.pt"
        if goal.exists():
            continue
        rnd = random.Random(clip.key)
        speech = rnd.choice([other for other in spoken if other.key != clip.key])
        with whole(goal) as part:
            torch.save(redub(clip, speech, network.eval(), frames, rnd.randrange(2**31)), part)


@torch.no_grad()
def redub(clip: Clip, speech: Clip, network: Transformer, frames: int, seed: int) -> Tensor:
    """Return a clip's latents float16 (T, C, h, w) dubbed with another clip's speech, which is repeated if it is shorter."""
    device = next(network.parameters()).device
    assert speech.features is not None
    num, tokens = len(clip.latents), network.config.audio_tokens
    frames = min(frames, num)
    seconds = clip.seconds.float()
    moments = (seconds - seconds[0]) % max(float(speech.seconds[-1]), 0.04)
    audio = at_moments(speech.features, 50.0, token_moments(moments, tokens))
    nearest = torch.searchsorted(speech.seconds.float().contiguous(), moments).clamp_max(len(speech.lips) - 1)
    lips = speech.lips[nearest]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        noise = start_noise(torch.Size((1, clip.latents.shape[1], num, *clip.latents.shape[2:])), torch.device("cpu"))[
            0
        ]
    starts = [*range(0, num - frames, frames), num - frames]
    painted = clip.neutral.clone()
    for first in range(0, len(starts), WINDOWS):
        spans = torch.tensor(starts[first : first + WINDOWS])[:, None] + torch.arange(frames)

        def video(table: Tensor, spans: Tensor = spans) -> Tensor:
            return table[spans].float().transpose(1, 2).to(device)

        told = torch.ones(len(spans), device=device)
        condition = Condition(
            source=video(clip.neutral),
            seconds=(seconds[spans] - seconds[spans[:, :1]]).to(device),
            pose=video(clip.pose),
            audio=audio[spans].to(device),
            lips=lips[spans].to(device),
            keep_audio=told,
            keep_lips=told,
        )
        mask = clip.mask[spans][:, None].float().to(device)
        made = paint(network, condition, mask, video(noise.transpose(0, 1)))
        painted[spans] = made.transpose(1, 2).half().cpu()
    return painted
