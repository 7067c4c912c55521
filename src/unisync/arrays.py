"""Dubbing frames that are in memory: the same two passes as over a file, which never touch a disk.

Frames are asked for one at a time, by number and more than once, so an array that is mapped from a file costs no memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unisync.dubbing import dub_frames
from unisync.errors import OptionError
from unisync.media.film import Film, held
from unisync.media.sound import Samples, as_speech, read_sound
from unisync.methods.base import Method
from unisync.options import DubOptions
from unisync.production import fit, plan_of
from unisync.registry import load
from unisync.scanning import choose
from unisync.types import Edit, OnProgress, Pixels, Plan, Progress, Track

Seconds = Fraction | float
Array = NDArray[Any]

BEYOND = 0.5
"""How far a float may lie outside [0, 1], as resizing leaves it; farther off it was never meant to lie there."""
MAX_CHANNELS = 8
KINDS = ("uint8", "float16", "float32", "float64")


class Frames(Protocol):
    """A numpy array, a torch tensor, or what is indexed like one: (T, H, W, 3) RGB, uint8, or floats in [0, 1]."""

    @property
    def shape(self) -> Sequence[int]: ...

    def __getitem__(self, index: int, /) -> Any: ...


class DubbedFrames:
    """The dubbed frames, painted while they are gone through; each is (H, W, 3), of the kind that was given.

    Where no mask lies they are the given ones to the bit.
    seconds: when each is shown.  order: which of the given ones each is.  chosen: the faces that speak.
    warnings: what a person should know.
    """

    def __init__(self, source: Source, options: DubOptions, on_progress: OnProgress | None) -> None:
        """Look at all frames, so that whatever is wrong is said here. Raises UnisyncError."""
        self._frames, self._on_progress = source.frames, on_progress
        self._film, self._sound, track, self.warnings = fit(source.film, source.sound, Path("speech"), options)
        self._heard, self._repeats = (source.samples, source.rate), track.repeats
        self._method: Method = load("method", options.method)(options)
        self.plan: Plan = plan_of(self._film, options, on_progress)
        self.chosen: list[Track] = choose(self.plan, "box1" if options.box else options.face)
        self.seconds = self._film.seconds
        self.order: Sequence[int] = self._film.source or range(len(self.seconds))

    def __len__(self) -> int:
        return len(self.seconds)

    def __iter__(self) -> Iterator[Any]:
        cast = {track.name: self._sound for track in self.chosen}
        with closing(dub_frames(self._film, self.plan, cast, self._method)) as frames:
            for done, frame in enumerate(frames, 1):
                yield edited(self._frames[self.order[frame.index]], frame.edits)
                if self._on_progress:
                    self._on_progress(Progress("dub", done, len(self)))

    def array(self) -> Any:
        """Return all frames at once, (T, H, W, 3)."""
        made: Any = None
        for index, frame in enumerate(self):
            if made is None:
                shape = (len(self), *frame.shape)
                made = np.empty(shape, frame.dtype) if isinstance(frame, np.ndarray) else frame.new_empty(shape)
            made[index] = frame
        return made

    def speech(self) -> tuple[Samples, int] | None:
        """Return what is heard with the frames, float32 (N, channels) and its rate; None where it was given as a file."""
        samples, rate = self._heard
        if samples is None:
            return None
        num = round(self._film.duration * rate)
        if self._repeats:
            return np.resize(samples, (num, samples.shape[1])), rate
        return np.pad(samples, ((0, max(0, num - len(samples))), (0, 0)))[:num], rate


class Source:
    """Frames and speech as they were given, checked."""

    def __init__(
        self,
        frames: Frames,
        speech: Path | str | tuple[Any, int],
        fps: Seconds | None,
        seconds: Sequence[Seconds] | None,
    ) -> None:
        """Raises OptionError for what is of another shape or kind, and MediaError for a speech that cannot be read."""
        self.frames = frames
        self.film = _film(frames, fps, seconds)
        self.samples: Samples | None = None
        self.rate = 0
        if isinstance(speech, Path | str):
            self.sound = read_sound(speech)
        else:
            self.samples, self.rate = _samples(*speech), speech[1]
            self.sound = as_speech(self.samples, self.rate)


def edited(frame: Any, edits: Sequence[Edit]) -> Any:
    """Return a copy of a frame with the edits laid on it, only where their mask is above 0."""
    made: Any = frame.copy() if isinstance(frame, np.ndarray) else frame.clone()
    pixels = _numpy(made)
    for edit in edits:
        height, width = edit.mask.shape
        region = pixels[edit.y : edit.y + height, edit.x : edit.x + width]
        painted = edit.pixels if pixels.dtype == np.uint8 else edit.pixels / np.float32(255)
        np.copyto(region, painted, where=(edit.mask > 0)[..., None], casting="same_kind")
    if not isinstance(made, np.ndarray):
        made.copy_(made.new_tensor(pixels))  # a tensor on another device shares no memory with its numpy array
    return made


def _film(frames: Frames, fps: Seconds | None, seconds: Sequence[Seconds] | None) -> Film:
    shape = tuple(getattr(frames, "shape", ()))
    if len(shape) != 4 or shape[3] != 3 or 0 in shape:
        raise OptionError(
            f"frames must be (T, H, W, 3), RGB, one or more of them, not {shape or type(frames).__name__}"
        )
    if (fps is None) == (seconds is None):
        raise OptionError("frames need either fps, frames a second, or seconds, when each frame is shown")
    try:
        kind = str(_numpy(frames[0]).dtype)
    except TypeError:  # numpy has no bfloat16
        kind = str(frames[0].dtype)
    if kind not in KINDS:
        raise OptionError(f"frames must be {', '.join(KINDS)}, floats in [0, 1], not {kind}")

    def frame(index: int) -> Pixels:
        return _rgb(_numpy(frames[index]), index)

    moments, last = _moments(shape[0], fps, seconds)
    return held((int(shape[2]), int(shape[1])), moments, last, frame)


def _moments(num: int, fps: Seconds | None, seconds: Sequence[Seconds] | None) -> tuple[tuple[Fraction, ...], Fraction]:
    """Return when each frame is shown, the first at 0, and how long the last one is."""
    if fps is not None:
        if not 0.01 <= fps <= 1000:
            raise OptionError(f"fps must be from 0.01 to 1000, not {fps}")
        step = 1 / _exact(fps, 1001)
        return tuple(index * step for index in range(num)), step
    assert seconds is not None
    if len(seconds) != num or not np.isfinite(np.asarray(seconds, np.float64)).all():
        raise OptionError(f"seconds must be one number for each of {num} frames, not {len(seconds)}")
    exact = [_exact(moment, 10**6) for moment in seconds]
    if any(after <= before for before, after in zip(exact, exact[1:], strict=False)):
        raise OptionError("seconds must ascend: no two frames are shown at the same time")
    moments = tuple(moment - exact[0] for moment in exact)
    return moments, moments[-1] - moments[-2] if num > 1 else Fraction(1, 25)


def _exact(number: Seconds, denominator: int) -> Fraction:
    return number if isinstance(number, Fraction) else Fraction(float(number)).limit_denominator(denominator)


def _samples(samples: Any, rate: int) -> Samples:
    """Return float32 (N, channels) of samples that are floats in [-1, 1] or whole numbers over their whole range."""
    given = _numpy(samples)
    if not isinstance(rate, int | np.integer) or not 1000 <= rate <= 768_000:
        raise OptionError(f"the speech's rate must be a whole number of samples a second, not {rate!r}")
    if given.ndim not in (1, 2) or (given.ndim == 2 and not 1 <= given.shape[1] <= MAX_CHANNELS) or not len(given):
        raise OptionError(f"the speech must be (N,) or (N, channels), not {given.shape}")
    if given.dtype.kind == "i":
        given = given / -float(np.iinfo(given.dtype).min)
    elif given.dtype.kind != "f":
        raise OptionError(f"the speech must be floats in [-1, 1] or signed whole numbers, not {given.dtype}")
    if not np.isfinite(given).all():
        raise OptionError("the speech holds numbers that are not finite")
    return given.astype(np.float32).reshape(len(given), -1)


def _numpy(array: Any) -> Array:
    """Return a numpy array; a torch tensor is taken off its device."""
    return np.asarray(array.detach().cpu() if hasattr(array, "detach") else array)


def _rgb(pixels: Array, index: int) -> Pixels:
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= -BEYOND and high <= 1 + BEYOND):  # NaN too
        raise OptionError(f"frame {index} holds values from {low:g} to {high:g}: floats must lie in [0, 1]")
    codes: Pixels = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    return codes
