"""Dubbing frames that are in memory."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unisync.options import DubOptions
from unisync.types import OnProgress

if TYPE_CHECKING:
    from unisync.arrays import DubbedFrames, Frames


def dub_frames(
    frames: Frames,
    speech: Path | str | tuple[Any, int],
    *,
    fps: Fraction | float | None = None,
    seconds: Sequence[Fraction | float] | None = None,
    options: DubOptions | None = None,
    on_progress: OnProgress | None = None,
) -> DubbedFrames:
    """Return the frames with the chosen faces speaking the speech, to be gone through, or all at once by `array()`.

    frames: numpy or torch, (T, H, W, 3) RGB, uint8 or floats in [0, 1]; they are looked at here, and painted later.
    speech: a file, or samples (N,) or (N, channels) and their rate.
    fps: a whole number, a Fraction, or a float that is taken for the nearest fraction.  seconds: or each frame's time.
    Raises UnisyncError.
    """
    from unisync.arrays import DubbedFrames, Source

    return DubbedFrames(Source(frames, speech, fps, seconds), options or DubOptions(), on_progress)
