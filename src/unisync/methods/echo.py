"""The method that paints nothing: the plumbing's witness."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from unisync.methods.base import Keep, Performer, Spec, anew
from unisync.options import DubOptions
from unisync.types import Pixels, Track, Window


class Echo:
    """Gives every canvas back as it came."""

    def __init__(self, options: DubOptions) -> None:
        self.spec = Spec(canvas=128, length=8, overlap=2, paints=False)

    def begin(self, track: Track, keep: Keep = anew) -> Performer:
        return EchoPerformer(keep)


class EchoPerformer:
    """Remembers nothing."""

    def __init__(self, keep: Keep) -> None:
        self.keep = keep

    def render(self, windows: Iterable[Window]) -> Iterator[tuple[int, Pixels]]:
        return ((window.start, self.keep(window, lambda same: same.pixels)) for window in windows)
