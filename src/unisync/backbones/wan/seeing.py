"""What image-to-video models see: a picture's latents with a mask, and CLIP's tokens of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unisync.backbones.pretrained import config_of, pretrained
from unisync.errors import WeightsError
from unisync.nets.wan.families import CLIP_WIDTH
from unisync.nets.wan.vae import TEMPORAL_STRIDE

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of CLIP's training pictures, in [0, 1]."""


class Clip:
    """CLIP's image encoder through transformers, from a local folder."""

    def __init__(self, folder: Path) -> None:
        self._network: Any = pretrained("CLIPVisionModel", folder).float().eval().requires_grad_(False)
        self._size = int(self._network.config.image_size)

    @torch.no_grad()
    def __call__(self, picture: Tensor) -> Tensor:
        """Return tokens (1, L, 1280) of a picture (1, 3, H, W) in [-1, 1], from the last layer but one."""
        small = F.interpolate(picture, size=(self._size, self._size), mode="bicubic", align_corners=False)
        mean, std = (torch.tensor(each, device=picture.device).view(1, 3, 1, 1) for each in (MEAN, STD))
        self._network.to(picture.device)
        tokens: Tensor = self._network((small * 0.5 + 0.5 - mean) / std, output_hidden_states=True).hidden_states[-2]
        self._network.to("cpu")
        return tokens


def check_clip(folder: Path) -> None:
    """Raise WeightsError unless a folder holds the CLIP that Wan sees with; only its configuration is read."""
    config = config_of(folder)
    config = config.get("vision_config", config)
    if config.get("hidden_size") != CLIP_WIDTH:
        raise WeightsError(
            f"{folder}: its image tokens are {config.get('hidden_size')} wide and must be {CLIP_WIDTH}: "
            "take the image_encoder of Wan2.1 I2V"
        )


def image_condition(picture: Tensor, num: int, encode: Callable[[Tensor], Tensor]) -> Tensor:
    """Return what an image-to-video model takes beside the noisy latents, (1, 4 + C, F', h, w), the first frame given.

    picture: (1, 3, H, W) in [-1, 1].  num: frames of the window; what follows the picture is grey.
    """
    film = picture.new_zeros(1, 3, num, *picture.shape[2:])
    film[:, :, 0] = picture
    latents = encode(film)
    mask = latents.new_zeros(1, TEMPORAL_STRIDE, *latents.shape[2:])
    mask[:, :, 0] = 1
    return torch.cat([mask, latents], dim=1)
