"""Timestep-dependent sampling (OmniSync Eq 3): its settings, and its pseudo-pairs, two stretches of one film in nearly the
same pose with other lips."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unisync.errors import OptionError
from unisync.mouth import STILL, lip_parameters
from unisync.training.dataset import Canvases
from unisync.training.loop import LoopRecipe
from unisync.whole import whole

CHOICES = 3
"""A stretch keeps so many partners, the nearest in pose."""
STEP = 2
"""Stretches begin at every so many frames."""
APART = 8
"""A partner begins at least so many frames away, or a whole stretch, and half a stretch: the nearest of all in pose is
mostly the stretch itself a few frames on, whose lips would tell those that are to be painted."""


@dataclass(frozen=True, kw_only=True)
class PairedRecipe(LoopRecipe):
    """How many samples are drawn by timestep-dependent sampling, and what a pseudo-pair is."""

    paired: float = 0.0
    """Share of the samples by timestep-dependent sampling (OmniSync Eq 3): above the noise level `paired_above` the source is
    a stretch of nearly the same pose and other lips, below it any stretch of the same film; the film as it is, both times."""
    paired_above: float = 0.85
    """A sigma, so after any shift of the noise levels."""
    pair_pose: float = 0.02
    """How far apart such poses may be, in canvas sides."""
    pair_lips: float = 0.5
    """How far apart such lips' openings must be, in spreads."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.paired <= 1:
            raise OptionError(f"paired is a probability, from 0 to 1, not {self.paired:g}")
        if not 0 <= self.paired_above <= 1:
            raise OptionError(f"paired_above is a noise level, from 0 to 1, not {self.paired_above:g}")


def mine(still: Tensor, lips: Tensor, frames: int, near: float, far: float) -> Tensor:
    """Return where two stretches of `frames` frames begin, int64 (N, 2): of one that may be a target, and of its source.

    still: (T, K, 2), points that speech does not move, in canvas sides.  lips: (T, 6), each over its spread.
    near: how far apart the poses may be, canvas sides (root mean square over the points, mean over the frames).
    far: how far apart the lips' openings must be on average, in spreads.
    """
    num = len(still) - frames + 1
    if num < 2:
        return torch.zeros(0, 2, dtype=torch.int64)
    best, partner = _poses(still, lips, frames, near, far)[::STEP].topk(min(CHOICES, num), dim=1, largest=False)
    target = (torch.arange(0, num, STEP)[:, None]).expand_as(partner)
    fit = best.isfinite()
    return torch.stack([target[fit], partner[fit]], dim=1)


def partners(clip: Canvases, frames: int, near: float, far: float) -> dict[int, int]:
    """Return where a clip's windows of `frames` frames, one after another, have their pseudo-pairs, by their first frames.

    Windows without one are left out.  near, far: as `mine` has them, far in canvas sides too.
    """
    size, num = clip.pixels.shape[1], len(clip.pixels) - frames + 1
    if num < 2:
        return {}
    still = torch.from_numpy(np.asarray(clip.landmarks[:, list(STILL)] / size, np.float32))
    lips = torch.from_numpy(lip_parameters(clip.landmarks, size))
    starts = torch.arange(0, num, frames)
    best, partner = _poses(still, lips, frames, near, far)[::frames].min(dim=1)
    fit = best.isfinite()
    return dict(zip(starts[fit].tolist(), partner[fit].tolist(), strict=True))


def _poses(still: Tensor, lips: Tensor, frames: int, near: float, far: float) -> Tensor:
    """Return how far apart in pose any two of the N stretches are (N, N), infinite for those that are no pseudo-pair."""
    num = len(still) - frames + 1
    pose = torch.cdist(still.float().flatten(1), still.float().flatten(1)) / still.shape[1] ** 0.5
    opening = (lips[:, None, 0] - lips[None, :, 0]).abs()
    ends = range(frames)
    # the mean along the diagonals: frame by frame, two stretches side by side
    poses, openings = (sum(table[k : k + num, k : k + num] for k in ends) / frames for table in (pose, opening))
    assert isinstance(poses, Tensor) and isinstance(openings, Tensor)
    starts = torch.arange(num)
    away = (starts[:, None] - starts).abs()
    return poses.masked_fill(
        (poses > near) | (openings < far) | (away < max(min(APART, frames), frames / 2)), torch.inf
    )


def load_pairs(latents: Path, work: Path, spread: Tensor, frames: int, near: float, far: float) -> dict[str, Tensor]:
    """Return the pairs of every clip in a folder of latents by its key; mined once, then read from WORK/pairs-MARK.pt.

    spread: (6,) of the lips, canvas sides.
    """
    paths = sorted(latents.glob("*.pt"))
    about = [latents.parent.name, frames, near, far, APART, spread.tolist(), [path.name for path in paths]]
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
