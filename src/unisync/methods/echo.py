"""The method that paints nothing: the plumbing's witness."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from unisync.methods.base import Performer, Spec
from unisync.options import DubOptions
from unisync.types import Pixels, Track, Window


class Echo:
    """Gives every canvas back as it came."""

    def __init__(self, options: DubOptions) -> None:
        self.spec = Spec(canvas=128, length=8, overlap=2)

    def begin(self, track: Track) -> Performer:
        return self

    def render(self, windows: Iterable[Window]) -> Iterator[tuple[int, Pixels]]:
        return ((window.start, window.pixels) for window in windows)
