"""How late each speaker's sound is, as a half-trained sync expert finds it: films in the wild are frames out of sync.

What is out of sync is moved, to a mel row (10 ms); what never fits is dropped. Lateness is relative to the median over
the speakers: an expert can only learn from its films where 0 lies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray

from unisync.metrics.expert import REACH
from unisync.nets.expert import ROWS_PER_FRAME, Expert
from unisync.training.mouths import Utterance, centred

MIN_WINDOWS = 100
"""Fewer windows than this do not say how late a speaker's sound is; it is taken as it is."""
MIN_FIT = 0.01
"""How much nearer than at any shift lips and sound must be, or a speaker is dropped."""
MOST = 7.0
"""Frames; what seems to be later or earlier than that is another sound."""


@dataclass(frozen=True)
class Lateness:
    """frames: by which a speaker's sound is late.  fit: median distance over all shifts minus that there.  windows: seen."""

    frames: float
    fit: float
    windows: int

    @property
    def known(self) -> bool:
        """Whether there is enough to go by."""
        return self.windows >= MIN_WINDOWS


def lateness_of(utterances: list[Utterance], expert: Expert) -> dict[str, Lateness]:
    """Return each speaker's lateness against the median speaker's."""
    sums: dict[str, NDArray[np.float64]] = {}
    for u in utterances:
        sums[u.speaker] = sums.get(u.speaker, np.zeros((2, 2 * REACH + 1))) + distance_sums(u, expert)
    found = {speaker: _lateness(total / np.maximum(num, 1), int(num[REACH])) for speaker, (total, num) in sums.items()}
    usual = float(np.median([late.frames for late in found.values() if late.known] or [0.0]))
    return {speaker: replace(late, frames=late.frames - usual) for speaker, late in found.items()}


@torch.no_grad()
def distance_sums(utterance: Utterance, expert: Expert) -> NDArray[np.float64]:
    """Return the sums and the counts, (2, 31), of the distances of lips and sound shifted by -15 to 15 frames."""
    expert.eval()
    seen = expert.see(centred(utterance.mouths, expert.config)[None])[0]
    table = (1 - seen @ expert.hear(utterance.mel[None])[0].T).numpy()
    diagonals = [np.diagonal(table, shift) for shift in range(-REACH, REACH + 1)]
    return np.array([[d.sum() for d in diagonals], [len(d) for d in diagonals]], np.float64)


def _lateness(mean: NDArray[np.float64], windows: int) -> Lateness:
    """Find the least distance between shifts by a parabola through three of them."""
    at = int(np.clip(mean[1:-1].argmin() + 1, 1, len(mean) - 2))
    before, here, after = mean[at - 1 : at + 2]
    bend = before - 2 * here + after
    place = at - REACH + (0.5 * (before - after) / bend if bend > 1e-9 else 0.0)
    return Lateness(float(place), float(np.median(mean) - here), windows)


def mended(utterances: list[Utterance], lateness: dict[str, Lateness], frames: int) -> list[Utterance]:
    """Return the utterances in sync, without speakers that never fit and without what is left shorter than `frames`."""
    kept = []
    for u in utterances:
        late = lateness[u.speaker]
        if late.known and (late.fit < MIN_FIT or abs(late.frames) > MOST):
            continue
        u = moved(u, late.frames) if late.known else u
        if len(u) >= frames:
            kept.append(u)
    return kept


def moved(u: Utterance, late: float) -> Utterance:
    """Return an utterance whose sound is earlier by `late` frames, to the nearest mel row; what lacks either is cut."""
    rows = round(late * ROWS_PER_FRAME)
    first = max(0, ceil(-rows / ROWS_PER_FRAME))  # frame
    num = min(len(u) - first, (len(u.mel) - rows) // ROWS_PER_FRAME - first)
    start = ROWS_PER_FRAME * first + rows
    span = slice(first, first + num)
    return replace(u, mouths=u.mouths[span], lips=u.lips[span], mel=u.mel[start : start + ROWS_PER_FRAME * num])
