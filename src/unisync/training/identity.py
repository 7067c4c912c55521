"""Whose face it is, as far as its look tells: enough to keep most speakers out of one of the parts, not to name them.

There is no face-recognition network here. What is compared is the face above the lips in the aligned canvas: its light
and shade in low waves, and the colour of its skin. One person in another light, or with another beard, is another to it;
distances between landmarks were tried as well and told nothing more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from unisync.face.align import yaw_degrees
from unisync.face.speaker import lip_opening
from unisync.training.dataset import Canvases
from unisync.types import Floats

SAME_FACE = 0.6
"""Looks nearer than this are taken for one speaker: of pairs of other people's films one in a thousand is."""
NEAR_FACE = 1.0
"""Looks nearer than this never lie in different parts: loose, since a part too coarse is better than one that leaks."""
FRAMES = 12
PICTURE, ROWS = 32, 20  # side of the picture that is compared, and how many of its rows lie above the lips
WAVES = 8
COLOUR = 0.055  # weight of one Lab unit
BLOCK = 2048


def look(canvases: Canvases) -> Floats:
    """Return float32 (65,): what a face looks like over its most frontal frames with the lips together."""
    cost = np.abs(yaw_degrees(canvases.landmarks)) / 20 + 5 * lip_opening(canvases.landmarks)
    best = np.argsort(cost, kind="stable")[:FRAMES]
    mean = np.mean([canvases.pixels[i].astype(np.float32) for i in best], axis=0) / 255
    small = cv2.resize(mean, (PICTURE, PICTURE), interpolation=cv2.INTER_AREA)[:ROWS]
    lab = cv2.cvtColor(np.asarray(small, np.float32), cv2.COLOR_RGB2Lab)
    light = lab[..., 0]
    light = (light - light.mean()) / max(float(light.std()), 1.0)
    waves = cv2.dct(np.asarray(light, np.float32))[:WAVES, :WAVES].ravel()[1:] / 10
    colours = lab[4:, 6:26, 1:].mean((0, 1)) * COLOUR
    return np.concatenate([waves, colours]).astype(np.float32)


def grouped(looks: Floats, near: float, ties: Sequence[Sequence[str]] = ()) -> NDArray[np.int32]:
    """Return int32 (N,), which of looks (N, 65) belong together: those nearer than `near`, and those with a tie.

    ties: for each kind of tie, N words; whoever shares one (other than "") belongs together.
    """
    num = len(looks)
    pairs = [np.zeros((2, 0), np.intp)]
    for start in range(0, num, BLOCK):
        part = looks[start : start + BLOCK]
        gram = np.square(part).sum(1)[:, None] + np.square(looks).sum(1) - 2 * part @ looks.T
        a, b = np.nonzero(gram < near**2)
        pairs.append(np.stack([a + start, b]))
    for words in ties:
        first: dict[str, int] = {}
        joined = [(first.setdefault(word, i), i) for i, word in enumerate(words) if word]
        pairs.append(np.array(joined, np.intp).reshape(-1, 2).T)
    a, b = np.concatenate(pairs, axis=1)
    graph = coo_array((np.ones(len(a), bool), (a, b)), shape=(num, num))
    return np.asarray(connected_components(graph, directed=False)[1], np.int32)


def held_out(
    groups: NDArray[np.int32], seconds: Floats, names: Sequence[str], share: float, seed: int
) -> NDArray[np.bool_]:
    """Return bool (N,): whole groups, drawn by `seed`, that come to about `share` of the time.

    names: (N,), by which groups are drawn, so that the order in which films are read has no say.
    A group that alone is more than that much again is never held out; nor are all.
    """
    held = np.zeros(len(groups), bool)
    draws: dict[int, str] = {}
    for group, name in zip(groups.tolist(), names, strict=True):
        lot = hashlib.sha256(f"{seed} {name}".encode()).hexdigest()
        draws[group] = min(lot, draws.get(group, lot))
    wanted, total = share * float(seconds.sum()), 0.0
    for group in sorted(draws, key=lambda g: draws[g]):
        own = groups == group
        time = float(seconds[own].sum())
        if total < wanted and total + time <= 1.5 * wanted:
            held |= own
            total += time
    return held
