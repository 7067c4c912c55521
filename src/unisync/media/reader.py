"""Reads a film frame by frame, from any frame on, exactly the frames its time stamps list."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from fractions import Fraction

import av

from unisync.errors import MediaError
from unisync.media.colour import Colour, convert, understand
from unisync.media.film import Film
from unisync.media.layout import layout_of
from unisync.media.packets import decoded
from unisync.media.picture import AvPicture
from unisync.media.probe import open_input, picture_stream
from unisync.types import ArrayPicture, Frame, Picture

log = logging.getLogger(__name__)

_BACKWARDS_BYTES = 1 << 26
"""Memory for frames that are decoded forwards to be shown backwards."""


def read_frames(film: Film, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
    """Yield the frames [start, stop), each with a picture of its own.

    A frame lost inside the film is filled with the one before it; a film that breaks off ends early, with a warning.
    Raises MediaError where not even the first frame asked for can be decoded.
    """
    stop = len(film) if stop is None else min(stop, len(film))
    if not 0 <= start <= len(film):
        raise ValueError(f"start must be in [0, {len(film)}], not {start}")
    order = range(start, stop) if film.source is None else film.source[start:stop]
    index = start
    held = film.held
    pictures: Iterator[Picture] = (
        _pictures(film, order) if held is None else (ArrayPicture(held(number)) for number in order)
    )
    for picture in pictures:
        yield Frame(index, film.ticks[index] * film.time_base, picture)
        index += 1
    if index < stop:
        if index == start:
            raise MediaError(f"{film.path} cannot be decoded at frame {index}: the file is damaged there.")
        log.warning("%s breaks off: %d of %d frames can be read.", film.path, index - start, stop - start)


def _pictures(film: Film, order: Sequence[int]) -> Iterator[AvPicture]:
    """Yield the pictures of the file in the order asked for, in as few runs as possible."""
    previous: tuple[int, AvPicture] | None = None
    at = 0
    while at < len(order):
        first = order[at]
        if previous is not None and previous[0] == first:
            yield previous[1].copy()
            at += 1
            continue
        end = at + 1
        step = -1 if end < len(order) and order[end] == first - 1 else 1
        while end < len(order) and order[end] == order[end - 1] + step:
            end += 1
        run = _forwards(film, first, order[end - 1] + 1) if step == 1 else _backwards(film, order[end - 1], first + 1)
        for previous in run:
            yield previous[1]
            at += 1
        if at < end:
            return


def _backwards(film: Film, first: int, stop: int) -> Iterator[tuple[int, AvPicture]]:
    """Yield the frames [first, stop) last to first, a block at a time."""
    layout = layout_of(film.pix_fmt)
    frame_bytes = 3 * film.stored_width * film.stored_height * (1 + (layout.bits > 8))
    block = min(64, max(4, _BACKWARDS_BYTES // frame_bytes))
    while stop > first:
        start = max(first, stop - block)
        frames = list(_forwards(film, start, stop))
        if len(frames) < stop - start:
            return
        while frames:
            yield frames.pop()
        stop = start


def _forwards(film: Film, first: int, stop: int) -> Iterator[tuple[int, AvPicture]]:
    """Yield (index, picture) for the file's frames [first, stop), without gaps."""
    expected = first
    latest: AvPicture | None = None
    for index, frame in _decoded_from(film, first):
        if index < expected:
            continue
        picture = _picture(film, frame)
        while expected < min(index, stop):
            yield expected, (latest or picture).copy()
            expected += 1
        if expected >= stop:
            return
        latest = picture
        yield expected, picture
        expected += 1
        if expected >= stop:
            return


def _picture(film: Film, frame: av.VideoFrame) -> AvPicture:
    name = frame.format.name
    if (name, frame.width, frame.height) != (film.pix_fmt, film.stored_width, film.stored_height):
        was = understand(film.tags, name, frame.width, frame.height)
        colour = Colour(film.colour.matrix, was.full if name.startswith("yuvj") else film.colour.full)
        if (frame.width, frame.height) != (film.stored_width, film.stored_height):
            frame = frame.reformat(width=film.stored_width, height=film.stored_height, threads=1)
        frame = convert(frame, film.pix_fmt, colour, film.colour)
    return AvPicture(frame, film.colour, film.turn)


def _decoded_from(film: Film, first: int) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yield (index, frame) from somewhere at or before a frame on; files that seek badly are read from the start."""
    backs: tuple[Fraction | None, ...] = (Fraction(0), Fraction(3), None) if first and film.stamps else (None,)
    for back in backs:
        with open_input(film.path) as container:
            stream = picture_stream(container)
            if stream is None:
                raise MediaError(f"{film.path} has no picture any more: it was changed while it was read.")
            stream.thread_type = "AUTO"
            if back is not None:
                try:
                    assert stream.time_base is not None
                    offset = film.stamps[first] - int(back / stream.time_base)
                    container.seek(max(offset, film.stamps[0]), stream=stream)
                except av.FFmpegError:
                    continue
            frames = (frame for _, some in decoded(container, stream, str(film.path)) for frame in some)
            head = next(frames, None)
            if back is not None and (head is None or head.pts is None or head.pts > film.stamps[first]):
                continue  # it landed too late
            if head is not None:
                yield _index(film, head, 0), head
                for number, frame in enumerate(frames, 1):
                    yield _index(film, frame, number), frame
            return


def _index(film: Film, frame: av.VideoFrame, number: int) -> int:
    """Return which of the file's frames this is; `number` counts from the start for files without time stamps."""
    if not film.stamps or frame.pts is None:
        return number
    return bisect_left(film.stamps, frame.pts)
