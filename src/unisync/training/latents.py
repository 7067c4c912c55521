"""Canvases to cached latents: the film as it is, with neutral, other and lent lips, and its pose video.

Training then costs no pixels.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unisync import flow
from unisync.mask import mouth_mask
from unisync.methods.pose import draw_pose
from unisync.mouth import STILL, choose_reference, lip_parameters, neutralised
from unisync.nets.precision import autocast
from unisync.nets.vae import FaceVae
from unisync.training.dataset import Canvases, Sample
from unisync.training.donors import choose_donors, lent, transplanted
from unisync.types import Floats, Pixels, Reference
from unisync.whole import whole

MAX_FRAMES = 300
"""Longer clips give a stretch of this many frames, so that no face drowns the others."""
BATCH = 32


def encode_samples(samples: Iterable[Sample], out: Path, vae: FaceVae, spread: Floats) -> None:
    """Write OUT/KEY.pt for every sample; what is there already is kept.

    spread: (6,) of the lips, canvas sides; it only weighs which mouth is lent, so another encoder's does as well.
    """
    out.mkdir(parents=True, exist_ok=True)
    vae = vae.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for sample in samples:
        goal = out / f"{sample.key}.pt"
        if goal.exists():
            continue
        with whole(goal) as part:
            torch.save(encode_clip(sample.canvases, vae, spread, random.Random(sample.key)), part)


def encode_clip(clip: Canvases, vae: FaceVae, spread: Floats, rnd: random.Random) -> dict[str, object]:
    """Return what `unisync.training.clips.load_clips` reads; half the clips mirrored, all slightly recoloured."""
    size = clip.pixels.shape[1]
    first = rnd.randint(0, max(0, len(clip.pixels) - MAX_FRAMES))
    span = slice(first, first + MAX_FRAMES)
    landmarks = clip.landmarks[span]
    flip = rnd.random() < 0.5
    gain = 1 + rnd.uniform(-0.25, 0.25)
    shift = np.array([rnd.uniform(-12, 12) for _ in range(3)], np.float32) + rnd.uniform(-15, 15)
    pixels = np.clip(clip.pixels[span].astype(np.float32) * gain + shift, 0, 255).astype(np.uint8)
    at = choose_reference(landmarks, size)
    neutral = neutralised(pixels, landmarks, Reference(pixels[at], landmarks[at]))
    other = transplanted(pixels, landmarks, choose_donors(landmarks, size, rnd), neutral)
    near = lent(pixels, landmarks, spread, rnd)
    pose = draw_pose(landmarks, size)
    masks = torch.from_numpy(np.stack([mouth_mask(points, size) for points in landmarks]))
    mask = flow.latent_mask(masks[None], 1, vae.config.stride)[0, 0].bool()
    if flip:
        # In the mirrored pose the two eyes change their colours: red and green swap.
        pixels, neutral, other, near = (x[:, :, ::-1] for x in (pixels, neutral, other, near))
        pose = pose[:, :, ::-1][..., [1, 0, 2]]
        mask = mask.flip(-1)
    start = round(float(clip.seconds[span][0]) * 16000)
    return {
        "latents": _encoded(vae, pixels),
        "neutral": _encoded(vae, neutral),
        "other": _encoded(vae, other),
        "lent": _encoded(vae, near),
        "pose": _encoded(vae, pose),
        "mask": mask,
        "lips": torch.from_numpy(lip_parameters(landmarks, size)),
        "still": torch.from_numpy(np.asarray(landmarks[:, list(STILL)] / size, np.float32)),
        "reference": at,
        "seconds": torch.from_numpy(clip.seconds[span] - clip.seconds[span][0]),
        "speech": len(clip.samples) > 8000,
        "pcm": torch.from_numpy(clip.samples[start:]),
        "speaker": clip.speaker,
    }


@torch.no_grad()
def _encoded(vae: FaceVae, pixels: Pixels) -> Tensor:
    """Return latents float16 (T, C, h, w)."""
    device = vae.mean.device
    parts = []
    for part in torch.from_numpy(np.ascontiguousarray(pixels)).split(BATCH):
        x = (part.to(device).permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        with autocast(device):
            parts.append(vae.encode(x).half().cpu())
    return torch.cat(parts)
