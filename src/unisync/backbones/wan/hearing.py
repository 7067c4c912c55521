"""Which speech encoders each family of public models hears with, and their features at each latent frame's moments."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unisync.backbones.speech_encoders import Heard, Needs
from unisync.nets.wan.families import Audio

NATIVE = 4
"""Film frames of a latent frame."""

NEEDS: dict[Audio, tuple[Needs, ...]] = {
    "k_proj": (Needs("wav2vec2", 768, published="wav2vec2-base-960h"),),
    "audio_cross_attn": (Needs("wav2vec2", 768, 12, 25.0, published="chinese-wav2vec2-base"),),
    "audio_injector": (Needs("wav2vec2", 1024, 25, published="wav2vec2-large-xlsr-53-english"),),
    "audio_attn": (
        Needs("whisper", 1280, published="whisper-large-v2"),
        Needs("wav2vec2", 768, published="wav2vec2-base-960h"),
    ),
}


def condition_of(audio: Audio, heard: Heard, seconds: NDArray[np.float64], rate: float) -> Tensor:
    """Return what a family's network takes for a window whose frames are shown at seconds (4n + 1,).

    rate: film frames a second that the network was taught; frames beyond the window are that far apart.
    """
    times = torch.from_numpy(seconds).float()
    groups = latent_groups(times, rate)
    match audio:
        case "k_proj":
            span = float(times[-1] - times[0]) + 1 / rate
            num = max(2, round(span * heard.rates[0]))
            return heard.at(times[0] + torch.arange(num) * (span / num))[None, :, 0]
        case "audio_cross_attn":
            later = [groups[:, :1] - 2 / rate, groups[:, :1] - 1 / rate, groups]
            later += [groups[:, -1:] + 1 / rate, groups[:, -1:] + 2 / rate]
            eight = torch.cat(later, dim=1)
            eight[0, :5] = times[0] + (torch.arange(5) - 2) / rate
            return heard.at(eight).flatten(1, 2)[None]
        case "audio_injector":
            return heard.at(groups).flatten(1, 2)[None]
        case "audio_attn":
            halves = torch.stack([groups, groups + 0.5 / rate], dim=-1).flatten(1)
            return heard.at(halves).flatten(1, 2)[None]


def latent_groups(seconds: Tensor, rate: float) -> Tensor:
    """Return the moments (n + 1, 4) of each latent frame's film frames, shown at seconds (4n + 1,).

    The first latent frame has one of its own, before which come three as far apart as the network was taught.
    """
    before = seconds[0] - torch.arange(NATIVE - 1, 0, -1) / rate
    return torch.cat([before, seconds]).view(-1, NATIVE)
