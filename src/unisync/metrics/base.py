"""What a metric is: it is shown a finished film's canvases beside the truth's, and gives figures by name."""

from __future__ import annotations

from typing import Literal, Protocol

from unisync.types import Window

Better = Literal["higher", "lower", "one"]
"""Which way is good; "one": the nearer to the truth's own, a ratio of 1, the better."""
Value = float | str
"""A figure, or, where there is none, the reason why."""

NOTHING_SEEN = "nothing was measured"


class Metric(Protocol):
    """One way to judge a face. It is made without arguments, keeps sums only, and can be asked at any time."""

    name: str
    unit: str
    better: Better

    def update(self, made: Window, truth: Window | None = None) -> None:
        """Take a stretch of one face: consecutive frames, each shown once.

        truth: what `made` is held against (the source, the true film, or the film that the speech is from). Where
        pixels are compared it lies on the same canvases as `made`. Raises ValueError where it is needed and not given,
        or does not fit.
        """

    def compute(self) -> dict[str, Value]:
        """Return the figures so far, the first under the metric's own name."""


def beside(made: Window, truth: Window | None, name: str) -> Window:
    """Return the truth. Raises ValueError unless it lies frame by frame on the same canvases as `made`."""
    if truth is None:
        raise ValueError(f"{name} needs a truth to hold the film against")
    if truth.pixels.shape != made.pixels.shape:
        raise ValueError(f"{name}: the canvases are {made.pixels.shape}, the truth's {truth.pixels.shape}")
    return truth


def ratio(made: float, truth: float, why_not: str) -> Value:
    """Return made / truth, or the reason where the truth is 0."""
    return made / truth if truth > 0 else why_not
