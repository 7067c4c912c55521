"""What a method is: a spec, and a performer for each track."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from unisync.options import Composite
from unisync.types import Pixels, Sound, Track, Window


@dataclass(frozen=True)
class Spec:
    """canvas: side in px.  length: frames a window.  overlap: frames that neighbouring windows share, cross-faded.

    grid: a track shorter than a window is filled up to a multiple of it and one more; 0: to a whole window.
    lends: whether windows come with other mouths of the same shot, for which it is read once more.
    composite: where finished canvases change the film: at the mouth, fading or cut off, or on the whole face.
    facts: what the report says of the method, plain numbers and words.
    paints: whether lips are changed at all; the finished film says so.
    """

    canvas: int
    length: int
    overlap: int
    grid: int = 0
    lends: bool = False
    composite: Composite = "gaussian"
    facts: Mapping[str, Any] = field(default_factory=dict)
    paints: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.length:
            raise ValueError(f"overlap {self.overlap} must be in [0, {self.length})")
        if self.grid and self.length % self.grid != 1:
            raise ValueError(f"length {self.length} must be a multiple of {self.grid} and one more")

    def filled(self, num: int) -> int:
        """Return how many frames a track of `num` frames, fewer than a window's, is filled up to."""
        return self.grid * max(1, -(-(num - 1) // self.grid)) + 1 if self.grid else self.length


Paint = Callable[[Window], Pixels]
"""What repaints one window's canvases, uint8 (T, S, S, 3)."""
Keep = Callable[[Window, Paint], Pixels]
"""What returns a window's painted canvases: painted now, or kept since a run that was stopped. Called from any thread."""


def anew(window: Window, paint: Paint) -> Pixels:
    """Keep nothing: paint the window."""
    return paint(window)


class Performer(Protocol):
    """One track's painter; what must be remembered between windows lives here."""

    def render(self, windows: Iterable[Window]) -> Iterator[tuple[int, Pixels]]:
        """Yield, for each window in turn, its first frame's index and its canvases with new lips.

        Canvases are uint8 (T, S, S, 3), or (T, nS, nS, 3), n times enlarged. Windows may be read ahead.
        """


class Method(Protocol):
    """A way to repaint lips."""

    @property
    def spec(self) -> Spec: ...

    def begin(self, track: Track, keep: Keep = anew) -> Performer:
        """Return the performer of one track; all of its long work goes through `keep`, the same work for the same window."""


@runtime_checkable
class Hears(Protocol):
    """A method that takes in a speech before a track says it, so that this is done beside other work."""

    def listen(self, sound: Sound) -> object:
        """Take in a speech and remember it; called from any thread."""
