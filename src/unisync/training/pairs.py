"""Pseudo-pairs for OmniSync's timestep-dependent sampling: two stretches of one film, nearly the same pose, other lips."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from unisync.errors import OptionError
from unisync.whole import whole

CHOICES = 3
"""A stretch keeps so many partners, the nearest in pose."""
STEP = 2
"""Stretches begin at every so many frames."""


def mine(still: Tensor, lips: Tensor, frames: int, near: float, far: float) -> Tensor:
    """Return where two stretches of `frames` frames begin, int64 (N, 2): of one that may be a target, and of its source.

    still: (T, K, 2), points that speech does not move, in canvas sides.  lips: (T, 6), each over its spread.
    near: how far apart the poses may be, canvas sides (root mean square over the points, mean over the frames).
    far: how far apart the lips' openings must be on average, in spreads.
    """
    num = len(still) - frames + 1
    if num < 2:
        return torch.zeros(0, 2, dtype=torch.int64)
    pose = torch.cdist(still.float().flatten(1), still.float().flatten(1)) / still.shape[1] ** 0.5
    opening = (lips[:, None, 0] - lips[None, :, 0]).abs()
    ends = range(frames)
    # the mean along the diagonals: frame by frame, two stretches side by side
    poses, openings = (sum(table[k : k + num, k : k + num] for k in ends) / frames for table in (pose, opening))
    assert isinstance(poses, Tensor) and isinstance(openings, Tensor)
    cost = poses.masked_fill((poses > near) | (openings < far), torch.inf)[::STEP]
    best, partner = cost.topk(min(CHOICES, num), dim=1, largest=False)
    target = (torch.arange(0, num, STEP)[:, None]).expand_as(partner)
    fit = best.isfinite()
    return torch.stack([target[fit], partner[fit]], dim=1)


def load_pairs(latents: Path, work: Path, spread: Tensor, frames: int, near: float, far: float) -> dict[str, Tensor]:
    """Return the pairs of every clip in a folder of latents by its key; mined once, then read from WORK/pairs-MARK.pt.

    spread: (6,) of the lips, canvas sides.
    """
    paths = sorted(latents.glob("*.pt"))
    about = [latents.parent.name, frames, near, far, spread.tolist(), [path.name for path in paths]]
    file = work / f"pairs-{hashlib.sha256(repr(about).encode()).hexdigest()[:12]}.pt"
    if not file.exists():
        found = {}
        for path in paths:
            data = torch.load(path, weights_only=True, mmap=True)
            if "still" not in data:
                raise OptionError(
                    f"{latents} was made by an earlier version, without poses: remove it, to have it made anew"
                )
            found[path.stem] = mine(data["still"], data["lips"] / spread.cpu(), frames, near, far)
        with whole(file) as part:
            torch.save(found, part)
    pairs: dict[str, Tensor] = torch.load(file, weights_only=True)
    return pairs
