"""The data that flows through the house: frozen, validated where it is made, numpy only.

Pixel coordinates (x, y) are floats with the origin at the centre of the top-left pixel, x right, y down.
Intervals are [start, stop) in frame indices. Times are seconds on the film's own clock.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

NUM_LANDMARKS = 468
"""Points per face: the canonical face mesh topology."""


Area = tuple[int, int, int, int]
"""A rectangle of whole pixels, upright: left, top, right, bottom, the last two exclusive."""


class Picture(Protocol):
    """One decoded picture, kept as the decoder gave it; turned into RGB only when asked."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, upright."""

    def rgb(self, area: Area | None = None) -> Pixels:
        """Return a fresh uint8 (h, w, 3) RGB array, upright, of an area of the picture or the whole of it."""


@dataclass(frozen=True, eq=False)
class ArrayPicture:
    """A picture that is an RGB array already."""

    pixels: Pixels

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or self.pixels.shape[2] != 3 or self.pixels.dtype != np.uint8:
            raise ValueError(f"pixels must be uint8 (H, W, 3), not {self.pixels.dtype} {self.pixels.shape}")

    @property
    def size(self) -> tuple[int, int]:
        return self.pixels.shape[1], self.pixels.shape[0]

    def rgb(self, area: Area | None = None) -> Pixels:
        left, top, right, bottom = area or (0, 0, *self.size)
        return self.pixels[top:bottom, left:right].copy()


@dataclass(frozen=True, eq=False)
class Edit:
    """Finished pixels for one rectangle of a frame; they replace the frame's own where `mask` > 0.

    pixels: uint8 (h, w, 3) RGB, composited already.  mask: float32 (h, w) in [0, 1], which pixels may change.
    """

    x: int
    y: int
    pixels: Pixels
    mask: Floats

    def __post_init__(self) -> None:
        if self.pixels.shape[:2] != self.mask.shape:
            raise ValueError(f"pixels {self.pixels.shape} and mask {self.mask.shape} differ in size")


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a film. `seconds` is exact: presentation time stamp × time base."""

    index: int
    seconds: Fraction
    picture: Picture
    edits: tuple[Edit, ...] = ()

    @cached_property
    def pixels(self) -> Pixels:
        """uint8 (H, W, 3) RGB, upright, edits applied."""
        return self._shown((0, 0, *self.picture.size))

    def part(self, area: Area) -> Pixels:
        """Return an area of `pixels`; the rest is not turned into RGB for it. Raises ValueError outside the frame."""
        left, top, right, bottom = area
        width, height = self.picture.size
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise ValueError(f"{area} is no area of a frame of {width}x{height}")
        whole: Pixels | None = self.__dict__.get("pixels")
        return self._shown(area) if whole is None else whole[top:bottom, left:right]

    def _shown(self, area: Area) -> Pixels:
        pixels = self.picture.rgb(area)
        for edit in self.edits:
            height, width = edit.mask.shape
            left, top = max(area[0], edit.x), max(area[1], edit.y)
            right, bottom = min(area[2], edit.x + width), min(area[3], edit.y + height)
            if left < right and top < bottom:
                inside = slice(top - edit.y, bottom - edit.y), slice(left - edit.x, right - edit.x)
                region = pixels[top - area[1] : bottom - area[1], left - area[0] : right - area[0]]
                np.copyto(region, edit.pixels[inside], where=(edit.mask[inside] > 0)[..., None])
        return pixels

    def edited(self, edit: Edit) -> Frame:
        """Return this frame with one more edit on top."""
        return replace(self, edits=(*self.edits, edit))


@dataclass(frozen=True, eq=False)
class Sound:
    """Mono speech, float32 in [-1, 1]. Second 0 is the film's first frame."""

    samples: Floats
    rate: int

    def __post_init__(self) -> None:
        if self.samples.ndim != 1 or self.samples.dtype != np.float32:
            raise ValueError(f"samples must be float32 (N,), not {self.samples.dtype} {self.samples.shape}")
        if self.rate <= 0:
            raise ValueError(f"rate must be positive, not {self.rate}")

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate

    def cut(self, start: float, stop: float) -> Sound:
        """Return the sound between two times in seconds; what lies outside it is silence."""
        first, last = round(start * self.rate), round(stop * self.rate)
        samples = np.zeros(max(0, last - first), np.float32)
        low, high = max(first, 0), min(last, len(self.samples))
        if low < high:
            samples[low - first : high - first] = self.samples[low:high]
        return Sound(samples, self.rate)


@dataclass(frozen=True, eq=False)
class Track:
    """One face through one shot.

    landmarks: float32 (T, 468, 2) px.  boxes: float32 (T, 4) px as left, top, right, bottom.
    score: float32 (T,) in [0, 1], how sure a face is there.  speaking: float32 (T,) in [0, 1].
    """

    name: str
    start: int
    stop: int
    landmarks: Floats
    boxes: Floats
    score: Floats
    speaking: Floats

    def __post_init__(self) -> None:
        num = self.stop - self.start
        if num <= 0:
            raise ValueError(f"track {self.name}: [{self.start}, {self.stop}) is empty")
        for name, shape in (
            ("landmarks", (num, NUM_LANDMARKS, 2)),
            ("boxes", (num, 4)),
            ("score", (num,)),
            ("speaking", (num,)),
        ):
            if getattr(self, name).shape != shape:
                raise ValueError(f"track {self.name}: {name} is {getattr(self, name).shape}, not {shape}")

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, eq=False)
class Shot:
    """Frames between two cuts, and the faces tracked there."""

    start: int
    stop: int
    tracks: tuple[Track, ...] = ()

    def __post_init__(self) -> None:
        for track in self.tracks:
            if not self.start <= track.start < track.stop <= self.stop:
                raise ValueError(f"track {track.name} leaves its shot [{self.start}, {self.stop})")


@dataclass(frozen=True, eq=False)
class Plan:
    """What a scan found: shots in order, disjoint, covering the film; and each frame's exact time."""

    film: str
    width: int
    height: int
    shots: tuple[Shot, ...]
    seconds: tuple[Fraction, ...]

    def __post_init__(self) -> None:
        at = 0
        for shot in self.shots:
            if shot.start != at:
                raise ValueError(f"a shot starts at frame {shot.start}, expected {at}")
            at = shot.stop
        if at != len(self.seconds):
            raise ValueError(f"the shots end at frame {at}, the film at {len(self.seconds)}")

    @property
    def tracks(self) -> tuple[Track, ...]:
        """All tracks in film order."""
        return tuple(track for shot in self.shots for track in shot.tracks)


@dataclass(frozen=True, eq=False)
class Reference:
    """A canvas of the same face, whose lower face can be laid on others.

    pixels: uint8 (S, S, 3).  landmarks: float32 (468, 2) canvas px.
    """

    pixels: Pixels
    landmarks: Floats


@dataclass(frozen=True, eq=False)
class Mouths:
    """Canvases of the same face in the same shot, whose mouths can be laid on others.

    pixels: uint8 (K, S, S, 3).  landmarks: float32 (K, 468, 2) canvas px.
    lips: float32 (K, 6), their parameters in canvas sides, against the shot's median.
    fine: uint8 (K, nS, nS, 3), the same canvases n times as large, as the film shows what is fine; None: as in pixels.
    shut: float32 (K,), how far open, in canvas sides, they still seem to whom tells lips when they are pressed together.
    """

    pixels: Pixels
    landmarks: Floats
    lips: Floats
    fine: Pixels | None = None
    shut: Floats | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Reference:
        return Reference(self.pixels[index], self.landmarks[index])


@dataclass(frozen=True, eq=False)
class Window:
    """What a method sees: a stretch of aligned canvases and the sound; the same in inference, training and metrics.

    pixels: uint8 (T, S, S, 3).  seconds: float64 (T,), each frame's own moment.
    landmarks: float32 (T, 468, 2) canvas px.  sound: the whole speech, 16 kHz.
    reference: the face with its lips closed.  mouths: the same face with all sorts of lips.
    """

    start: int
    pixels: Pixels
    seconds: NDArray[np.float64]
    landmarks: Floats
    sound: Sound
    reference: Reference | None = None
    mouths: Mouths | None = None

    def __post_init__(self) -> None:
        num, height, width, channels = self.pixels.shape
        if height != width or channels != 3:
            raise ValueError(f"pixels must be (T, S, S, 3), not {self.pixels.shape}")
        if self.seconds.shape != (num,) or self.landmarks.shape != (num, NUM_LANDMARKS, 2):
            raise ValueError(f"{num} canvases, but seconds {self.seconds.shape} and landmarks {self.landmarks.shape}")

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True, eq=False)
class Patch:
    """What a method gives back for one frame.

    pixels: uint8 (S, S, 3) canvas, or (nS, nS, 3), n times enlarged.  mask: float32 (S, S) canvas, 0 on the border.
    matrix: float32 (2, 3), frame px -> canvas px.  seen: uint8 (S, S, 3), the canvas as the film has it.
    keep: float32 (S, S) canvas, where the film's own fine texture is put back (1) or not (0).
    mouth: float32 (S, S) canvas, 0 beyond the mouth, where the mask is wider than that; what changes there is measured.
    """

    frame: int
    pixels: Pixels
    mask: Floats
    matrix: Floats
    seen: Pixels
    keep: Floats
    mouth: Floats | None = None


@dataclass(frozen=True)
class Progress:
    """How far a verb is. stage: "scan", "dub", …; done and total in frames (total 0: not known)."""

    stage: str
    done: int
    total: int
    facts: dict[str, float] = field(default_factory=dict)


OnProgress = Callable[[Progress], None]
"""Called now and then; may raise `Cancelled`."""


@dataclass(frozen=True)
class Report:
    """What became of one film. All of it is plain numbers and words, so that it can be written as JSON.

    frames, seconds: of the finished film.  faces: how many tracks were painted.  tracks: facts of each painted track.
    skipped: frame intervals [start, stop) without a chosen face.  seconds_per_second: work per second of film.
    """

    film: str
    speech: str
    out: str
    frames: int
    seconds: float
    faces: int
    tracks: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[tuple[int, int]] = field(default_factory=list)
    seconds_per_second: float = 0.0
    warnings: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        at = 0
        for start, stop in self.skipped:
            if not at <= start < stop <= self.frames:
                raise ValueError(f"skipped [{start}, {stop}) is empty, out of order or outside {self.frames} frames")
            at = stop

    @property
    def line(self) -> str:
        """One line for a person."""
        skipped = sum(stop - start for start, stop in self.skipped)
        places = (
            f"{skipped} skipped in {len(self.skipped)} range{'s' * (len(self.skipped) != 1)}"
            if skipped
            else "0 skipped"
        )
        beyond = self.facts.get("beyond_mouth")
        change = f"{beyond:.1f} dB beyond the mouth, " if isinstance(beyond, float) else ""
        return (
            f"{self.frames} frames ({self.seconds:.2f} s), {self.faces} face{'s' * (self.faces != 1)}, {places}, "
            f"{change}{self.seconds_per_second:.2f} s per second of film"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return every field, and nothing that JSON cannot hold."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self), allow_nan=False))
        return plain

    def to_json(self) -> str:
        """Return the report as one JSON object."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"
