"""A method of one's own, `--method blush` once installed: the mouth blushes as loud as the speech is."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from unisync import DubOptions, Keep, Performer, Pixels, Spec, Track, Window, anew


class Blush:
    def __init__(self, options: DubOptions) -> None:
        self.spec, self.red = Spec(canvas=128, length=8, overlap=2), 200 * options.strength

    def begin(self, track: Track, keep: Keep = anew) -> Performer:
        return Blushing(keep, self.red)


@dataclass
class Blushing:
    keep: Keep  # so that a job that was stopped goes on with what was painted
    red: float

    def render(self, windows: Iterable[Window]) -> Iterator[tuple[int, Pixels]]:
        yield from ((window.start, self.keep(window, self.paint)) for window in windows)

    def paint(self, window: Window) -> Pixels:
        heard = (window.sound.cut(at, at + 0.04).samples for at in window.seconds.tolist())
        added = [[[[self.red * np.abs(samples).max(), 0, 0]]] for samples in heard]  # (T, 1, 1, 3)
        return np.asarray((window.pixels + np.array(added)).clip(0, 255), np.uint8)
