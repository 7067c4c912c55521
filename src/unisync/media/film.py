"""A film as a value: what its file says about it, its frames' exact times, and the virtual films made from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import count
from math import lcm
from pathlib import Path
from typing import Literal

from unisync.media.colour import Colour, Tags, understand
from unisync.media.layout import Turn, layout_of
from unisync.types import Pixels

Extension = Literal["loop", "bounce", "hold"]


@dataclass(frozen=True, eq=False)
class Film:
    """A film, or a still picture as a film of one frame.

    stored_width, stored_height: as in the file, before turning upright.  pix_fmt: of the frames as read (planar).
    time_base: the unit of `ticks`.  ticks: when each frame starts, ascending from 0.  last: the last frame's ticks.
    stamps: the file's own time stamps, which seeking goes by; empty where it has none that can be trusted.
    source: for a virtual film, which frame of the file each frame shows.
    held: for a film that is in no file, what returns each of its frames, uint8 (H, W, 3) RGB.
    """

    path: Path
    codec: str
    pix_fmt: str
    stored_width: int
    stored_height: int
    time_base: Fraction
    ticks: tuple[int, ...]
    last: int
    rate: Fraction
    stamps: tuple[int, ...] = ()
    tags: Tags = Tags()  # noqa: RUF009 - it is frozen
    sample_aspect: Fraction = Fraction(1)
    display_matrix: tuple[int, ...] | None = None
    still: bool = False
    has_sound: bool = False
    source: tuple[int, ...] | None = None
    held: Callable[[int], Pixels] | None = None

    def __len__(self) -> int:
        return len(self.ticks)

    @property
    def width(self) -> int:
        """Pixels across, upright."""
        return self.stored_height if self.turn.swaps else self.stored_width

    @property
    def height(self) -> int:
        """Pixels down, upright."""
        return self.stored_width if self.turn.swaps else self.stored_height

    @cached_property
    def turn(self) -> Turn:
        """How the stored picture is turned to stand upright."""
        return Turn.of_matrix(self.display_matrix)

    @property
    def rotation(self) -> int:
        """Degrees counter-clockwise from stored to upright: 0, 90, 180 or 270; mirrors left aside."""
        turn = self.turn
        if turn.swaps:
            return 270 if turn.mirrors_x else 90
        return 180 if turn.mirrors_y else 0

    @property
    def bits(self) -> int:
        """Bits per sample."""
        return layout_of(self.pix_fmt).bits

    @cached_property
    def colour(self) -> Colour:
        """Matrix and range of the planes, guessed where the file does not say."""
        return understand(self.tags, self.pix_fmt, self.stored_width, self.stored_height)

    @cached_property
    def seconds(self) -> tuple[Fraction, ...]:
        """When each frame starts, exact; the first at 0."""
        return tuple(tick * self.time_base for tick in self.ticks)

    @property
    def duration(self) -> Fraction:
        """Seconds until the end of the last frame, exact."""
        return (self.ticks[-1] + self.last) * self.time_base


def drawn(name: str, width: int, height: int, rate: Fraction | int, num_frames: int) -> Film:
    """Return a film that is in no file: the size, clock and colours (8-bit 4:2:0, BT.709) for frames made by code."""
    rate = Fraction(rate)
    return Film(
        path=Path(name),
        codec="rawvideo",
        pix_fmt="yuv420p",
        stored_width=width,
        stored_height=height,
        time_base=1 / rate,
        ticks=tuple(range(num_frames)),
        last=1,
        rate=rate,
        tags=Tags(1, 1, 1, 1),
    )


def held(size: tuple[int, int], seconds: Sequence[Fraction], last: Fraction, frame: Callable[[int], Pixels]) -> Film:
    """Return a film whose frames are handed over by `frame`. size: (W, H).  seconds: ascending from 0.  last: lasts."""
    time_base = Fraction(1, lcm(*(moment.denominator for moment in (*seconds, last))))
    length = seconds[-1] + last
    return Film(
        path=Path("frames"),
        codec="rawvideo",
        pix_fmt="gbrp",
        stored_width=size[0],
        stored_height=size[1],
        time_base=time_base,
        ticks=tuple(int(moment / time_base) for moment in seconds),
        last=int(last / time_base),
        rate=len(seconds) / length,
        still=len(seconds) == 1,
        held=frame,
    )


def extend(film: Film, seconds: Fraction | float, how: Extension) -> Film:
    """Return a virtual film at least that long, or the film itself where it is long enough.

    how: "loop" starts over, "bounce" runs back and forth without showing a turning point twice, "hold" keeps the last
    frame at the film's average rate (a still: 25 a second).
    """
    if how not in ("loop", "bounce", "hold"):
        raise ValueError(f"how must be loop, bounce or hold, not {how!r}")
    seconds = _meant(seconds)
    if film.duration >= seconds:
        return film
    end = seconds / film.time_base
    ticks, order = [], []
    for tick, index in _forever(film, "hold" if len(film) == 1 else how):
        if tick >= end:
            break
        ticks.append(tick)
        order.append(index)
    return _rearranged(film, tuple(ticks), tuple(order), film.last)


def cut(film: Film, seconds: Fraction | float) -> Film:
    """Return the film without the frames that start at or after a time; the first frame always stays."""
    end = _meant(seconds) / film.time_base
    num = max(1, sum(1 for tick in film.ticks if tick < end))
    if num == len(film):
        return film
    return _rearranged(film, film.ticks[:num], tuple(range(num)), film.ticks[num] - film.ticks[num - 1])


def _meant(seconds: Fraction | float) -> Fraction:
    """Return a float to the microsecond: .8 lies a hair above the moment at which frame 20 of 25 a second starts."""
    return seconds if isinstance(seconds, Fraction) else Fraction(seconds).limit_denominator(10**6)


def _rearranged(film: Film, ticks: tuple[int, ...], order: tuple[int, ...], last: int) -> Film:
    source = order if film.source is None else tuple(film.source[index] for index in order)
    return replace(film, ticks=ticks, last=last, source=source)


def _forever(film: Film, how: str) -> Iterator[tuple[int, int]]:
    """Yield (tick, index of the frame shown) without end."""
    base, num = film.ticks, len(film)
    if how == "hold":
        yield from zip(base, range(num), strict=True)
        step = Fraction(base[-1], num - 1) if num > 1 else Fraction(film.last)
        for number in count(1):
            yield base[-1] + round(number * step), num - 1
    for number in count():
        if how == "loop":
            at = number * (base[-1] + film.last)
            yield from ((at + tick, index) for index, tick in enumerate(base))
        else:
            at = number * 2 * base[-1]
            yield from ((at + base[index], index) for index in range(num - 1))
            yield from ((at + 2 * base[-1] - base[index], index) for index in range(num - 1, 0, -1))
