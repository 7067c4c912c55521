"""Scene cuts, found in one pass with a look ahead of two frames.

A cut changes everything and stays; a flash goes back, a pan or a shake keeps changing: only the first counts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from unisync.types import Floats, Frame, Pixels

AHEAD = 2
"""Frames that must follow before one can be judged: longer flashes than this are taken for cuts."""
WIDTH, HEIGHT = 64, 36
CUT = 0.07  # talking heads, hands and hand-held cameras stay under .05; a jump cut in one setting starts at .07
STANDS_OUT = 3.0  # how many times more a cut changes than the frames around it


@dataclass(frozen=True, eq=False)
class _Look:
    """What is compared: colours float32 (H, W, 3) in [0, 1], and where edges lie, (H, W), mean 0 and norm 1 (or 0)."""

    colours: Floats
    edges: Floats


class ShotFinder:
    """Says of each frame whether a new shot begins there, `AHEAD` frames later."""

    def __init__(self) -> None:
        self._looks: deque[_Look] = deque(maxlen=2 * (AHEAD + 1))
        self._waiting = 0  # how many frames are not judged yet
        self._seen = 0

    def feed(self, pixels: Pixels) -> bool | None:
        """Return whether the frame fed `AHEAD` calls ago begins a shot; None while there is no such frame.

        pixels: uint8 (H, W, 3) of any size. The film's first frame is not a cut.
        """
        self._looks.append(_look(pixels))
        self._waiting += 1
        self._seen += 1
        return self._judge() if self._waiting > AHEAD else None

    def finish(self) -> list[bool]:
        """Return the verdicts still owed, one per frame."""
        return [self._judge() for _ in range(self._waiting)]

    def _judge(self) -> bool:
        """Judge the oldest frame not judged yet, by those before and after it that are remembered."""
        looks = list(self._looks)
        at = len(looks) - self._waiting
        first = self._seen == self._waiting
        self._waiting -= 1
        if first:
            return False
        before, after = looks[max(0, at - AHEAD - 1) : at], looks[at : at + AHEAD + 1]
        change = _change(before[-1], after[0])
        if not any(look.edges.any() for look in before):
            return False  # a blank picture before the film, or between two shots, belongs to what follows
        if change < CUT or min(_change(a, b) for a in before for b in after) < CUT:
            return False
        around = [_change(a, b) for part in (before, after) for a, b in pairwise(part)]
        return not around or change > STANDS_OUT * float(np.median(around))


def mark_cuts(frames: Iterable[Frame]) -> Iterator[tuple[Frame, bool]]:
    """Yield every frame with whether a new shot begins there; holds `AHEAD` + 1 frames."""
    finder, held = ShotFinder(), deque[Frame]()
    for frame in frames:
        held.append(frame)
        verdict = finder.feed(frame.pixels)
        if verdict is not None:
            yield held.popleft(), verdict
    for verdict in finder.finish():
        yield held.popleft(), verdict


def _look(pixels: Pixels) -> _Look:
    width = pixels.shape[1]
    if width > 8 * WIDTH:  # area averaging reads every pixel: skip most of them in large frames
        step = width // (4 * WIDTH)
        pixels = pixels[::step, ::step]
    small = cv2.resize(pixels, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    colours = np.asarray(cv2.GaussianBlur(small.astype(np.float32) / 255, (0, 0), 1.0), np.float32)
    grey = colours.mean(2)
    slope = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    edges = np.asarray(cv2.GaussianBlur(slope, (0, 0), 1.5), np.float32)
    edges -= edges.mean()
    norm = float(np.linalg.norm(edges))
    return _Look(colours, edges / np.float32(norm) if norm > 1e-3 else np.zeros_like(edges))


def _change(a: _Look, b: _Look) -> float:
    """Return how different two pictures are, in [0, 1]: colours differ, and edges lie elsewhere.

    Light that goes on or off changes the colours but not where the edges lie.
    """
    colours = float(np.abs(a.colours - b.colours).mean())
    moved = max(0.0, 1 - float((a.edges * b.edges).sum())) / 2  # rounding: a still may be more than like itself
    return float(np.sqrt(min(1.0, 2 * colours) * moved))
