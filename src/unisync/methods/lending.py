"""Which of a shot's own mouths lies under each painted frame: the one nearest to what the speech asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from unisync.mask import lips_mask
from unisync.mouth import PRESSED, STILL, STRETCH, Opening, laid, laid_on, opening_warp, warped
from unisync.types import Floats, Mouths, Pixels, Window

WEIGHTS = np.array([1.0, 1.0, 0.5, 0.5, 0.3, 0.2], np.float32)
"""How much each lip parameter counts, after division by its spread."""
FAR_POSE = 0.03
"""Canvas sides that cost about as much as lips one spread away; twice as far costs six times that: lips can be warped
open or shut, but beside a face that is turned otherwise lies what is behind it."""
FAR_LIGHT = np.array([25.0, 8.0], np.float32)
"""Levels that the upper face may be lighter and richer in contrast for the same cost: faces fade in from black or white."""
CROOKED = 0.02
"""Canvas sides that a mouth's corners may lie off from where they are in poses like its own, for the same cost."""
JUMP, MOVE = 1.0, 0.3
"""What it costs to change the mouth between frames: once, and per squared distance of the lips."""
GAPING = 0.01
"""Canvas sides that a mouth may seem open when its lips are pressed together, for the same cost: teeth stay in sight."""
SPOKEN, BEYOND = 0.07, 0.03
"""Lip openings, in canvas sides, that any mouth bears, and how far it opens at most beyond these and the widest lent one:
who hardly parts the lips does not gape in another language, and the inside of a gaping mouth would have to be made up."""
FINE = 3.0
"""Canvas px: what is finer is texture, and comes from the lent mouth where the painted one is like it."""
PRESSED_FINE = 0.8
"""The same for lips pressed together on an enlarged canvas, and none on others: their seam is cut by a warp, harder than a
seam is, so that it looks like an opening."""
ALIKE, ALIKE_SIGMA = 50.0, 2.0
"""How far painted lips may be from the lent ones, in levels over so many canvas px, and still take on their texture."""


@dataclass(frozen=True)
class Lent:
    """window: with lent mouths.  mouths: whose, by frame.  openings: (T,) that they are shown with, in canvas sides.

    Below 0 the lips are pressed together.  warps: how each mouth's canvas was warped for it.  gains: (T, 3), what matched
    their colours to the frame's.
    """

    window: Window
    mouths: Sequence[int]
    openings: Floats
    warps: Sequence[Opening]
    gains: Floats


class Lender:
    """Chooses mouths for one track, by Viterbi's algorithm window by window; what was chosen for a frame stays.

    spread: (6,) of the lip parameters, canvas sides.
    """

    def __init__(self, mouths: Mouths, spread: Floats) -> None:
        self.mouths = mouths
        self._scale = WEIGHTS / spread
        lips = mouths.lips * self._scale
        self._change = MOVE * np.square(lips[:, None] - lips).sum(-1) + JUMP * (1 - np.eye(len(mouths)))
        self._still = _pose(mouths.landmarks, mouths.pixels.shape[1])
        self._light = _light(mouths.pixels)
        self._crooked = np.square(_crooked(mouths.landmarks, mouths.pixels.shape[1]) / CROOKED)
        self._gaping = np.zeros(len(mouths)) if mouths.shut is None else np.square(mouths.shut / GAPING)
        self._chosen: dict[int, int] = {}

    def reach(self, openings: Floats) -> float:
        """Return which share of the lip openings (N,) asked for these mouths can show, in [0, 1]; 1 where none is."""
        widest = STRETCH * float(self.mouths.lips[:, 0].max())
        wanted = np.maximum(openings, 0)
        return float(np.minimum(wanted, widest).sum() / wanted.sum()) if wanted.any() else 1.0

    def borne(self, openings: Floats) -> Floats:
        """Return the openings asked for, in canvas sides, those that these mouths do not bear less wide; order is kept."""
        usual = max(float(self.mouths.lips[:, 0].max()), SPOKEN)
        wider = np.maximum(openings - usual, 0)
        return np.asarray(np.minimum(openings, usual) - BEYOND * np.expm1(-wider / BEYOND), np.float32)

    def lent(self, window: Window, lips: Floats) -> Lent:
        """Return the window with lent mouths, opened as asked. lips: (T, 6) canvas sides."""
        pixels, mouths = np.empty_like(window.pixels), self.choose(window, lips)
        asked = np.maximum(lips[:, 0], 0)
        openings = np.where(asked < PRESSED, 2 * asked - PRESSED, asked).astype(np.float32)
        gains, size = np.empty((len(mouths), 3), np.float32), window.pixels.shape[1]
        warps = [
            opening_warp(self.mouths.landmarks[mouth], size, float(opening))
            for mouth, opening in zip(mouths, openings, strict=True)
        ]
        for i, mouth in enumerate(mouths):
            reference = warped(self.mouths[mouth], warps[i])
            pixels[i], gains[i] = laid(window.pixels[i], window.landmarks[i], reference)
        return Lent(replace(window, pixels=pixels), mouths, openings, warps, gains)

    def textured(self, painted: Pixels, lent: Lent, amount: float = 1.0) -> Pixels:
        """Return painted canvases whose lips have the lent ones' texture where they are like them.

        painted: uint8 (T, S, S, 3).  Returned: uint8 (T, nS, nS, 3), n times enlarged if the mouths are.
        amount: of the texture, in [0, 1].
        """
        fine, size = self.mouths.pixels if self.mouths.fine is None else self.mouths.fine, painted.shape[1]
        sigmas = np.interp(lent.openings, (-PRESSED, 0), (PRESSED_FINE if fine.shape[1] > size else 0.0, FINE))
        chosen = zip(lent.mouths, lent.warps, lent.gains, sigmas, strict=True)
        frames = zip(lent.window.landmarks, lent.window.pixels, painted, strict=True)
        made = []
        for (mouth, warp, gain, sigma), (points, given, own) in zip(chosen, frames, strict=True):
            places, shown = _places(self.mouths.landmarks[mouth], points, warp)
            weight = amount * lips_mask(points, size) * shown * _alike(own, given)
            made.append(_textured(own, weight, fine[mouth], places, gain, float(sigma)))
        return np.stack(made)

    def choose(self, window: Window, lips: Floats) -> list[int]:
        """Return a mouth for each frame of the window, which begins no earlier than the one before."""
        frames = range(window.start, window.start + len(window))
        new = [i for i, frame in enumerate(frames) if frame not in self._chosen]
        if new:
            far = np.square((lips[new, None] - self.mouths.lips) * self._scale).sum(-1)
            still = _pose(window.landmarks[new], window.pixels.shape[1])
            away = _apart(still, self._still)
            strange = np.square((_light(window.pixels[new])[:, None] - self._light) / FAR_LIGHT).sum(-1)
            before = self._chosen.get(frames[new[0]] - 1)
            turned = np.square(away / FAR_POSE)
            shut = np.clip(1 - lips[new, :1] / PRESSED, 0, 1) * self._gaping
            cost = far + turned + np.square(turned / 2) + strange + self._crooked + shut
            path = cheapest_path(cost, self._change, before)
            self._chosen = {frame: self._chosen[frame] for frame in frames if frame in self._chosen}
            self._chosen |= {frames[i]: mouth for i, mouth in zip(new, path, strict=True)}
        return [self._chosen[frame] for frame in frames]


def cheapest_path(cost: NDArray[np.floating], change: NDArray[np.floating], before: int | None) -> list[int]:
    """Return the states (T,) of the least sum of their costs (T, K) and of changing between them (K, K).

    before: the state that the path goes on from.
    """
    total = cost[0] + (change[before] if before is not None else 0)
    origins = []
    for own in cost[1:]:
        ways = total[:, None] + change
        origins.append(ways.argmin(0))
        total = ways.min(0) + own
    path = [int(total.argmin())]
    for origin in reversed(origins):
        path.append(int(origin[path[-1]]))
    return path[::-1]


def _places(marks: Floats, points: Floats, warp: Opening) -> tuple[Floats, Floats]:
    """Return where on a mouth's own canvas lies what is lent to each pixel, and how much of that it really shows.

    Float32 (S, S, 2), x and y in canvas px, and (S, S) in [0, 1].
    """
    along = np.arange(len(warp.rows))
    back = cv2.invertAffineTransform(laid_on(marks, points, len(along)))
    x, y = (np.asarray(across * along + (down * along[:, None] + start), np.float32) for across, down, start in back)
    rows, invented = (
        cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for values in (warp.rows, warp.invented)
    )
    return np.dstack([x, rows]), np.asarray(1 - invented, np.float32)


def _alike(painted: Pixels, lent: Pixels) -> Floats:
    """Return float32 (S, S) in [0, 1]: how much the two canvases show the same."""
    apart = cv2.transform(np.asarray(cv2.absdiff(painted, lent), np.float32), np.full((1, 3), 1 / 3))
    return np.exp(-np.square(cv2.GaussianBlur(apart, (0, 0), ALIKE_SIGMA) / ALIKE), dtype=np.float32)


def _textured(pixels: Pixels, weight: Floats, fine: Pixels, places: Floats, gain: Floats, sigma: float) -> Pixels:
    """Return the canvas (S, S, 3) as large as `fine` (nS, nS, 3), with that one's texture.

    weight: (S, S), how much of it is the other's.  places: (S, S, 2), where it is taken from.  gain: (3,), of its colours.
    sigma: canvas px, what is finer is texture.
    """
    times = len(fine) // len(pixels)
    made = np.asarray(cv2.resize(pixels, None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC), np.uint8)
    rows, columns = np.flatnonzero(weight.any(1)), np.flatnonzero(weight.any(0))
    if not len(rows):
        return made
    part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    goal = (times * (columns[-1] + 1 - columns[0]), times * (rows[-1] + 1 - rows[0]))
    at = cv2.resize(places[part], goal, interpolation=cv2.INTER_LINEAR) * times + np.float32((times - 1) / 2)
    lent = cv2.remap(fine, at[..., 0], at[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    inside = tuple(slice(times * axis.start, times * axis.stop) for axis in part)
    own = made[inside].astype(np.float32)
    much = cv2.resize(weight[part], goal, interpolation=cv2.INTER_LINEAR)[..., None]
    apart = gain * lent - own
    # what is coarse is found on the canvas's own scale: blurring the enlarged one would take longer than all else here
    small = cv2.resize(apart, (goal[0] // times, goal[1] // times), interpolation=cv2.INTER_AREA)
    coarse = cv2.resize(_blurred(np.asarray(small, np.float32), sigma), goal, interpolation=cv2.INTER_LINEAR)
    made[inside] = np.clip(np.round(own + much * (apart - coarse)), 0, 255)
    return np.asarray(made, np.uint8)


def _blurred(picture: Floats, sigma: float) -> Floats:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.float32) if sigma > 0 else picture


def _light(pixels: Pixels) -> Floats:
    """Return float32 (T, 2): mean and spread of the upper face's brightness on canvases (T, S, S, 3)."""
    bright = pixels[:, : round(0.4 * pixels.shape[1]) : 2, ::2].mean(-1, dtype=np.float32)
    return np.stack([bright.mean((1, 2)), bright.std((1, 2))], axis=1)


def _crooked(landmarks: Floats, size: int) -> Floats:
    """Return float32 (K,): how far each mouth is pulled sideways or askew, against those in poses like its own, canvas sides.

    A head that turns takes its mouth along, which is no reason to lend it another one's.
    """
    right, left = landmarks[:, 61] / size, landmarks[:, 291] / size
    pulled = np.stack([(right + left)[:, 0] / 2, left[:, 1] - right[:, 1]], axis=1)
    pose = _pose(landmarks, size)
    like = np.exp(-np.square(_apart(pose, pose) / FAR_POSE))
    usual = np.stack([_medians(values, like) for values in pulled.T], axis=1)
    return np.asarray(np.linalg.norm(pulled - usual, axis=1), np.float32)


def _medians(values: Floats, weights: Floats) -> Floats:
    """Return for each row of weights (K, N) the median of values (N,) that are so weighty, (K,)."""
    order = np.argsort(values)
    below = np.cumsum(weights[:, order], axis=1)
    return values[order][(below < below[:, -1:] / 2).sum(axis=1)]


def _pose(landmarks: Floats, size: int) -> Floats:
    return np.asarray(landmarks[:, list(STILL)] / size, np.float32)


def _apart(some: Floats, others: Floats) -> Floats:
    """Return (N, K): how far apart the points of poses (N, P, 2) and (K, P, 2) lie on average."""
    return np.asarray(np.linalg.norm(some[:, None] - others, axis=-1).mean(-1), np.float32)
