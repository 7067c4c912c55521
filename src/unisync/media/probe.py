"""Opens files and says what is in them: every door of media/ goes through here, so bad files are named in one place."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import SideData, Type
from av.video.stream import VideoStream

from unisync.errors import MediaError
from unisync.media.colour import Tags
from unisync.media.film import Film
from unisync.media.layout import working_format

log = logging.getLogger(__name__)

STILL_RATE = 25
"""Frames a second of a still picture held as a film."""

_PICTURE_CODECS = ("mjpeg", "png", "apng", "webp", "tiff", "jpegxl", "jpeg2000", "gif")


def open_input(path: Path | str) -> InputContainer:
    """Open a film, picture or sound for reading; MediaError says why where it cannot be."""
    path = Path(path)
    if not path.exists():
        raise MediaError(f"{path} does not exist: check the name.")
    if path.is_dir():
        raise MediaError(f"{path} is a folder: name a file in it.")
    if path.stat().st_size == 0:
        raise MediaError(f"{path} is empty (0 bytes): fetch or export it again.")
    try:
        # An absolute name, since FFmpeg takes what stands before a colon for a protocol.
        container = av.open(os.path.abspath(path))
    except PermissionError as error:
        raise MediaError(f"{path} cannot be read: you have no permission.") from error
    except (av.FFmpegError, OSError, ValueError) as error:
        raise MediaError(
            f"{path} is no film, picture or sound that can be read: export it again, as mp4 say."
        ) from error
    if container.format.name == "tty":  # FFmpeg shows any text as a film of letters
        container.close()
        raise MediaError(f"{path} is a text, not a film, picture or sound.")
    return container


def picture_stream(container: InputContainer) -> VideoStream | None:
    """Return the video stream to use, or None; cover art of a sound file is none."""
    best = container.streams.best("video")
    for stream in (best, *container.streams.video):
        if isinstance(stream, VideoStream) and not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    return None


def has_picture(path: Path | str) -> bool:
    """Return whether a file has a picture that moves or stands for itself; MediaError where it cannot be read."""
    with open_input(path) as container:
        return picture_stream(container) is not None


def probe(path: Path | str) -> Film:
    """Look at a film or picture: decode its first frame, and read all packets for the frames' exact times.

    Raises MediaError where the file is missing, unreadable or without a picture.
    """
    path = Path(path)
    with open_input(path) as container:
        stream = picture_stream(container)
        if stream is None:
            raise MediaError(f"{path} has no picture, only sound: name a film or a picture.")
        frame = _first_frame(container, stream, path)
        average, aspect = stream.average_rate, _sample_aspect(stream)
        codec = stream.codec_context.codec.canonical_name
        has_sound = bool(container.streams.audio)
    stamps, last, time_base = _stamps(path)
    if stamps:
        ticks = tuple(stamp - stamps[0] for stamp in stamps)
    else:
        average = average or Fraction(STILL_RATE)
        time_base, last, ticks = 1 / average, 1, tuple(range(_count(path)))
    if len(ticks) == 1:
        time_base, last, ticks, average = Fraction(1, STILL_RATE), 1, (0,), Fraction(STILL_RATE)
    return Film(
        path=path,
        codec=codec,
        pix_fmt=working_format(frame.format.name),
        stored_width=frame.width,
        stored_height=frame.height,
        time_base=time_base,
        ticks=ticks,
        last=last,
        rate=_rate(average, ticks, time_base),
        stamps=stamps,
        tags=Tags(frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range),
        sample_aspect=aspect,
        display_matrix=_display_matrix(frame, len(ticks) == 1 or codec in _PICTURE_CODECS),
        still=len(ticks) == 1,
        has_sound=has_sound,
    )


def first_stamp(path: Path) -> Fraction | None:
    """Return when the film's first frame is shown, in seconds of the file's own clock; None without video or stamps."""
    with open_input(path) as container:
        stream = picture_stream(container)
        if stream is None or stream.time_base is None:
            return None
        seen: list[int] = []
        try:
            for packet in container.demux(stream):
                if packet.pts is not None and not packet.is_discard:
                    seen.append(packet.pts)
                if len(seen) >= 32:  # more than any codec reorders
                    break
        except av.FFmpegError:
            pass
        return min(seen) * stream.time_base if seen else None


def _first_frame(container: InputContainer, stream: VideoStream, path: Path) -> av.VideoFrame:
    try:
        for packet in container.demux(stream):
            try:
                for frame in packet.decode():
                    return frame
            except av.FFmpegError:
                continue
    except av.FFmpegError:
        pass
    raise MediaError(f"{path} holds no frame that can be decoded: it is damaged, or of a kind this FFmpeg lacks.")


def _stamps(path: Path) -> tuple[tuple[int, ...], int, Fraction]:
    """Return the time stamps of all frames in order, the last frame's duration and their unit; no stamps if unsure."""
    found: dict[int, int] = {}
    with open_input(path) as container:
        stream = picture_stream(container)
        assert stream is not None
        assert stream.time_base is not None
        time_base = stream.time_base
        hides = stream.codec_context.codec.canonical_name == "vp8"
        try:
            for packet in container.demux(stream):
                if packet.size == 0 or packet.is_discard:
                    continue
                if hides and not memoryview(packet)[0] & 0x10:  # VP8's show_frame: reference pictures are not shown
                    continue
                if packet.pts is None:
                    return (), 1, time_base
                found[packet.pts] = packet.duration or 0
        except av.FFmpegError:
            log.warning("%s breaks off after %d frames; what lies before is used.", path, len(found))
    stamps = tuple(sorted(found))
    if not stamps:
        return (), 1, time_base
    step = stamps[-1] - stamps[-2] if len(stamps) > 1 else 1
    return stamps, found[stamps[-1]] or step, time_base


def _count(path: Path) -> int:
    """Count the frames by decoding them all, for files without time stamps."""
    num = 0
    with open_input(path) as container:
        stream = picture_stream(container)
        assert stream is not None
        try:
            for packet in container.demux(stream):
                try:
                    num += len(packet.decode())
                except av.FFmpegError:
                    continue
        except av.FFmpegError:
            pass
    return max(1, num)


def _rate(average: Fraction | None, ticks: tuple[int, ...], time_base: Fraction) -> Fraction:
    """Return the file's own average rate if it agrees with the time stamps, else what they say."""
    if len(ticks) == 1:
        return Fraction(STILL_RATE)
    counted = (len(ticks) - 1) / (ticks[-1] * time_base)
    if average and abs(average / counted - 1) < Fraction(1, 100):
        return average
    return counted.limit_denominator(1001)


def _sample_aspect(stream: VideoStream) -> Fraction:
    return stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or Fraction(1)


def _display_matrix(frame: av.VideoFrame, has_exif: bool) -> tuple[int, ...] | None:
    """Return the frame's display matrix.

    PyAV 18.1 crashes over EXIF side data, so pictures give only their rotation: their mirrors are not seen.
    """
    if not has_exif:
        data = {entry.type: entry for entry in cast("Iterable[SideData]", frame.side_data)}.get(Type.DISPLAYMATRIX)
        return None if data is None else tuple(int(value) for value in np.frombuffer(memoryview(data), np.int32))
    quarter = round(frame.rotation / 90) % 4
    cosine, sine = ((1, 0), (0, 1), (-1, 0), (0, -1))[quarter]
    one = 1 << 16
    return (cosine * one, -sine * one, 0, sine * one, cosine * one, 0, 0, 0, 1 << 30) if quarter else None
