"""A method of one's own: the mouth blushes as loud as the speech is. `unisync dub … --method blush`, once installed."""

from collections.abc import Iterable, Iterator

import numpy as np

from unisync import DubOptions, Performer, Pixels, Spec, Track, Window


class Blush:
    def __init__(self, options: DubOptions) -> None:
        self.red = min(255.0, 200 * options.strength)
        self.spec = Spec(canvas=128, length=8, overlap=2)

    def begin(self, track: Track) -> Performer:
        return self  # nothing is remembered from window to window

    def render(self, windows: Iterable[Window]) -> Iterator[tuple[int, Pixels]]:
        for window in windows:
            pixels = window.pixels.astype(np.float32)
            for canvas, seconds in zip(pixels, window.seconds, strict=True):
                heard = window.sound.cut(float(seconds) - 0.02, float(seconds) + 0.02).samples
                canvas[..., 0] += self.red * min(1.0, float(np.abs(heard).max()))
            yield window.start, pixels.clip(0, 255).astype(np.uint8)
