"""Whose mouth to transplant: other words of the same face in nearly the same pose, or the same lips of another moment."""

from __future__ import annotations

import random

import numpy as np
from numpy.typing import NDArray

from unisync.methods.lending import Lender
from unisync.mouth import STILL, choose_mouths, lip_parameters, neutralised
from unisync.types import Floats, Mouths, Pixels, Reference, Sound, Window

SEGMENT = 8
"""Frames that take their mouths from one run of frames, so that transplanted lips move like lips."""
LIPS_WEIGHT = 0.3
"""How much farther a pose may be off for lips that differ more, both in canvas sides."""
FARTHEST = 0.04
"""Poses farther off than this, in canvas sides, give no mouth: it would not fit."""
CHOICES = 3
"""One of so many best runs is taken."""
MISS = 0.4
"""Lent lips are opened up to so much too far or too little, so that a network does not take their word for it."""
SEALED = 0.3
"""How often all that is lent is one closed mouth."""


def choose_donors(landmarks: Floats, size: int, rnd: random.Random) -> NDArray[np.intp]:
    """Return for each frame (T,) the frame whose mouth it gets, near in pose and far in lips, or -1 where none is near.

    landmarks: (T, 468, 2) canvas px. A run never overlaps the frames it is for by more than half.
    """
    num = len(landmarks)
    pose = landmarks[:, list(STILL)] / size
    lips = lip_parameters(landmarks, size)
    length = max(1, min(SEGMENT, num // 2))
    steps = np.arange(length)
    chosen = np.full(num, -1, np.intp)
    for start in range(0, num, length):
        own = np.minimum(start + steps, num - 1)
        pose_distance = np.linalg.norm(pose[own, None] - pose[None], axis=-1).mean(-1)
        lip_distance = np.linalg.norm(lips[own, None] - lips[None], axis=-1)
        cost = pose_distance - LIPS_WEIGHT * lip_distance
        begins = np.array([b for b in range(num - length + 1) if abs(b - own[0]) >= length / 2])
        if not len(begins):  # a clip of one frame
            return chosen
        order = begins[np.argsort(cost[steps, begins[:, None] + steps].mean(1))]
        best = int(order[rnd.randrange(min(CHOICES, len(order)))])
        donors = np.where(pose_distance[steps, best + steps] <= FARTHEST, best + steps, -1)
        chosen[start : start + length] = donors[: num - start]
    return chosen


def transplanted(pixels: Pixels, landmarks: Floats, donors: NDArray[np.intp], neutral: Pixels) -> Pixels:
    """Return canvases uint8 (T, S, S, 3) with their donors' mouths, laid on by still points, colour matched.

    Frames without a donor are taken from `neutral`, canvases of the same shape.
    """
    out = neutral.copy()
    for i in np.flatnonzero(donors >= 0):
        donor = donors[i]
        reference = Reference(pixels[donor], landmarks[donor])
        out[i] = neutralised(pixels[i : i + 1], landmarks[i : i + 1], reference)[0]
    return out


def lent(pixels: Pixels, landmarks: Floats, spread: Floats, rnd: random.Random) -> Pixels:
    """Return canvases uint8 (T, S, S, 3) with lent mouths, as dubbing lends a shot's own; opened up to MISS wrong.

    Each half of the clip is lent the other half's mouths: none its own. Of some (SEALED) the one that is closed has to
    serve for all, as in a still.  spread: (6,) of the lips, canvas sides.
    """
    num, size = len(pixels), pixels.shape[1]
    lips = lip_parameters(landmarks, size)
    halves = slice(0, num // 2), slice(num // 2, num)
    out = pixels.copy()
    for own, others in (halves, halves[::-1]):
        if own.start == own.stop or others.start == others.stop:
            continue
        at = others.start + choose_mouths(landmarks[others], size, np.ones(others.stop - others.start, np.float32))
        if rnd.random() < SEALED:
            at = at[[lips[at, 0].argmin()]]
        lender = Lender(Mouths(pixels[at], landmarks[at], lips[at]), spread)
        seconds, silence = np.arange(own.start, own.stop) / 25, Sound(np.zeros(0, np.float32), 16000)
        window = Window(own.start, pixels[own], seconds, landmarks[own], silence, None)
        asked = lips[own].copy()
        asked[:, :2] *= 1 + rnd.uniform(-MISS, MISS)
        out[own] = lender.lent(window, asked).window.pixels
    return out
