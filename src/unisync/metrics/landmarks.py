"""Metrics on landmarks: do the lips follow, are they shut in silence, do they tremble, is it still the same face."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import periodogram
from scipy.spatial import procrustes

from unisync.metrics.base import NOTHING_SEEN, Better, Value, beside, ratio
from unisync.mouth import lip_parameters
from unisync.types import Floats, Window

MIN_FRAMES = 40
"""Fewer frames than this have no correlation worth the name."""
SHIFTS = np.arange(-6, 7) / 50
"""Seconds by which lips may come earlier or later than a truth whose own sound is not in sync."""
STILL = 1e-4
"""Lips whose opening spreads by less than this share of the canvas do not move."""


def opening(window: Window) -> Floats:
    """Return how far the lips are open, float32 (T,) in canvas sides (an eye distance is .4 of a side)."""
    return lip_parameters(window.landmarks, window.pixels.shape[1])[:, 0]


class LipCorrelation:
    """Pearson's correlation of the lip opening with the truth's, and how far the lips go beside the truth's.

    With the speech's own film as truth it tells whether the lips follow the speech; with the dubbed film's source,
    whether the old lips leak. Films are often some frames out of sync, and speech takes its film's lateness along: so
    the correlation at the best of SHIFTS stands beside it, and how many seconds the truth's lips come late by it.
    """

    name = "lip_correlation"
    unit = "r"
    better: Better = "higher"

    def __init__(self) -> None:
        self._num = 0
        self._mean = np.zeros(2)
        self._spread = np.zeros((2, 2))
        self._made: dict[float, float] = {}
        self._truth: dict[float, float] = {}

    def update(self, made: Window, truth: Window | None = None) -> None:
        """Take a stretch; the truth may have any frame rate, and counts where it covers the film's moments."""
        if truth is None:
            raise ValueError(f"{self.name} needs a truth to hold the film against")
        own, true = opening(made), opening(truth)
        shared = (made.seconds >= truth.seconds[0]) & (made.seconds <= truth.seconds[-1])
        held = np.interp(made.seconds[shared], truth.seconds, true)
        self.add(own[shared], np.asarray(held, np.float32))
        self._made |= zip(made.seconds.tolist(), own.tolist(), strict=True)
        self._truth |= zip(truth.seconds.tolist(), true.tolist(), strict=True)

    def add(self, made: Floats, truth: Floats) -> None:
        """Take openings (T,) themselves."""
        if not len(made):
            return
        values = np.stack([made, truth]).astype(np.float64)
        mean, num = values.mean(1), values.shape[1]
        away, step = values - mean[:, None], mean - self._mean
        total = self._num + num
        self._spread += away @ away.T + np.outer(step, step) * self._num * num / total
        self._mean += step * num / total
        self._num = total

    def compute(self) -> dict[str, Value]:
        if self._num < MIN_FRAMES:
            return {self.name: f"{self._num} frames of {MIN_FRAMES}"}
        made, truth = np.sqrt(np.diag(self._spread) / self._num)
        if min(made, truth) < STILL:
            return {self.name: "lips that do not move"}
        return {
            self.name: float(self._spread[0, 1] / self._num / (made * truth)),
            "amplitude": float(made / truth),
            **self._best(),
        }

    def _best(self) -> dict[str, Value]:
        """Return the highest correlation over SHIFTS, and the shift."""
        if len(self._made) < MIN_FRAMES or len(self._truth) < 2:
            return {}
        seconds, made = (np.array(column) for column in zip(*sorted(self._made.items()), strict=True))
        moments, truth = (np.array(column) for column in zip(*sorted(self._truth.items()), strict=True))
        reach = SHIFTS[-1]
        inside = (seconds - reach >= moments[0]) & (seconds + reach <= moments[-1])
        if inside.sum() < MIN_FRAMES or made[inside].std() < STILL:
            return {}
        held = [np.interp(seconds[inside] + shift, moments, truth) for shift in SHIFTS]
        rs = [float(np.corrcoef(made[inside], there)[0, 1]) if there.std() >= STILL else -1.0 for there in held]
        best = int(np.argmax(rs))
        return {f"{self.name}_shifted": rs[best], "truth_late": float(SHIFTS[best])}


class SilenceShare:
    """Mean opening of lips that were driven by silence, as a share of the source's own opening.

    The mesh sees an opening in shut lips too, so the share that the source's most closed frame has stands beside it:
    no lips of that face come much lower.
    """

    name = "silence_share"
    unit = "of the source's opening"
    better: Better = "lower"

    def __init__(self) -> None:
        self._made = self._truth = 0.0
        self._shut = np.inf
        self._num = 0

    def update(self, made: Window, truth: Window | None = None) -> None:
        truth = beside(made, truth, self.name)
        own = opening(truth)
        self._made += float(opening(made).sum())
        self._truth += float(own.sum())
        self._shut = min(self._shut, float(own.min()))
        self._num += len(made)

    def compute(self) -> dict[str, Value]:
        if not self._num:
            return {self.name: NOTHING_SEEN}
        always = "a source whose lips are always shut"
        return {
            self.name: ratio(self._made, self._truth, always),
            "shut_share": ratio(self._shut * self._num, self._truth, always),
            "silent_opening": self._made / self._num,
        }


class Jitter:
    """Share of the lip opening's power at rates at which no lips move; real lips, measured alike, stand beside it."""

    name = "jitter"
    unit = "of power above 8 Hz"
    better: Better = "lower"
    above = 8.0
    min_frames = 16

    def __init__(self) -> None:
        self._made = np.zeros(2)
        self._truth = np.zeros(2)

    def update(self, made: Window, truth: Window | None = None) -> None:
        """Take a stretch as one segment of Welch's method; shorter ones than 16 frames say nothing."""
        self._made += self._power(made)
        if truth is not None:
            self._truth += self._power(truth)

    def _power(self, window: Window) -> NDArray[np.float64]:
        """Return the power above the limit and in all."""
        if len(window) < self.min_frames:
            return np.zeros(2)
        rate = 1 / float(np.median(np.diff(window.seconds)))
        hertz, power = periodogram(opening(window).astype(np.float64), rate, "hann", detrend="constant")
        return np.array([power[hertz > self.above].sum(), power.sum()])

    def compute(self) -> dict[str, Value]:
        still = "lips that do not move"
        return {
            self.name: ratio(float(self._made[0]), float(self._made[1]), still),
            "jitter_truth": ratio(float(self._truth[0]), float(self._truth[1]), still),
        }


class IdentityShape:
    """How far the mesh above the nose's base lies from the source's, once place, size and turn are taken out.

    The mesh looks at the whole face, so it moves a little wherever the mouth changes: hold the figure against that
    of the source with its mouth blurred.
    """

    name = "identity_shape"
    unit = "% of the eye distance"
    better: Better = "lower"

    def __init__(self) -> None:
        self._sum, self._num = 0.0, 0

    def update(self, made: Window, truth: Window | None = None) -> None:
        truth = beside(made, truth, self.name)
        for new, old in zip(made.landmarks.astype(np.float64), truth.landmarks.astype(np.float64), strict=True):
            upper = old[:, 1] < old[2, 1]  # on a canvas faces stand upright
            points = old[upper]
            _, _, disparity = procrustes(points, new[upper])
            gap = np.sqrt(disparity / len(points)) * np.linalg.norm(points - points.mean(0))
            eyes = np.linalg.norm(old[[33, 133]].mean(0) - old[[362, 263]].mean(0))
            self._sum += 100 * float(gap / eyes)
            self._num += 1

    def compute(self) -> dict[str, Value]:
        return {self.name: ratio(self._sum, self._num, NOTHING_SEEN)}
