"""Writes frames as a film: planes as they were read, edits written natively, the clock copied, all or nothing."""

from __future__ import annotations

import logging
import os
import uuid
from bisect import bisect_left
from collections.abc import Iterable
from pathlib import Path

import av
from av.container import OutputContainer
from av.video.stream import VideoStream

from unisync.errors import MediaError, UnisyncError
from unisync.media.colour import Colour, convert, understand
from unisync.media.encode import EncodeOptions, Target, check_out, target_of
from unisync.media.film import Film
from unisync.media.layout import copy_frame, layout_of
from unisync.media.picture import AvPicture, from_pixels
from unisync.media.provenance import HOLD_C2PA, Origin, sign
from unisync.media.sound import Speech
from unisync.media.soundtrack import Soundtrack
from unisync.types import Frame

log = logging.getLogger(__name__)


def write_film(
    frames: Iterable[Frame],
    out: Path | str,
    film: Film,
    speech: Speech | None = None,
    encode: EncodeOptions = EncodeOptions(),  # noqa: B008 - it is frozen
    origin: Origin | None = None,
) -> int:
    """Write the frames and return their number; the film lends its clock, colours, rotation and sound.

    A speech replaces the film's sound. origin: what OUT says of its making. Nothing appears at OUT before it is
    complete: on any error, and when the process is killed, OUT is as it was.
    Raises MediaError or OptionError; what `frames` raises passes through. `frames` is closed at the end.
    """
    out = Path(out)
    check_out(out, film, speech.path if speech else None, encode)
    target = target_of(film, out, encode)
    if speech is None and film.has_sound:
        speech = Speech(film.path)
    seals = origin is not None and origin.signer is not None
    if seals and target.container not in HOLD_C2PA:
        log.warning("%s cannot hold a C2PA manifest: it has the plain tag alone; mp4 and mov hold one.", out.name)
    private = out.absolute().parent / f".unisync-{uuid.uuid4().hex}.part"
    signed = private.with_suffix(".signed")
    try:
        num = _write(frames, private, film, speech, target, origin)
        if num == 0:
            raise MediaError(f"{out} was not written: there was no frame to write.")
        if origin is not None and seals and target.container in HOLD_C2PA:
            sign(private, signed, target.container, film.path, origin)
            os.replace(signed, private)
        os.replace(private, out)
    except UnisyncError:
        raise
    except (av.FFmpegError, OSError) as error:
        raise MediaError(f"{out} could not be written ({error.strerror or error}): is the disk full?") from error
    finally:
        private.unlink(missing_ok=True)
        signed.unlink(missing_ok=True)
        close = getattr(frames, "close", None)
        if close is not None:
            close()
    return num


def _write(
    frames: Iterable[Frame], private: Path, film: Film, speech: Speech | None, target: Target, origin: Origin | None
) -> int:
    options = {"fflags": "+bitexact"}  # Matroska would name the film by a number drawn by lot
    if target.container in ("mp4", "mov"):
        options["movflags"] = "+faststart"
    num, previous = 0, -1
    with av.open(str(private), "w", format=target.container, options=options) as output:
        if origin is not None:
            output.metadata["comment"] = origin.comment
        stream = _stream(output, film, target)
        track = Soundtrack(speech, output, target.container, film.duration) if speech else None
        try:
            for frame in frames:
                tick = max(round(frame.seconds / film.time_base), previous + 1)
                previous = tick
                native = _native(frame, film, target)
                native.pts, native.time_base, native.pict_type = tick, film.time_base, 0
                native.duration = _duration(film, tick)
                _mux(output, stream, native, film, track)
                num += 1
            if num:
                _mux(output, stream, None, film, track)
        finally:
            if track is not None:
                track.close()
    return num


def _mux(
    output: OutputContainer, stream: VideoStream, frame: av.VideoFrame | None, film: Film, track: Soundtrack | None
) -> None:
    """Encode a frame (None: the end) and write what comes of it, the sound before it first."""
    for packet in stream.encode(frame):
        assert packet.pts is not None
        packet.duration = _duration(film, packet.pts)
        if track is not None:
            for sound in track.until(packet.pts * packet.time_base):
                output.mux(sound)
        output.mux(packet)
    if frame is None and track is not None:
        for sound in track.until(None):
            output.mux(sound)


def _stream(output: OutputContainer, film: Film, target: Target) -> VideoStream:
    if target.codec == "av1":
        os.environ.setdefault("SVT_LOG", "0")  # the one way to keep this encoder's banner off the terminal
    stream = output.add_stream(target.encoder, rate=film.rate.limit_denominator(100_000), options=target.options)
    assert isinstance(stream, VideoStream)
    context = stream.codec_context
    context.width, context.height = _size(film, target)
    context.pix_fmt, context.time_base = target.pix_fmt, film.time_base
    tags = target.tags
    context.color_primaries, context.color_trc = tags.primaries, tags.trc
    context.colorspace, context.color_range = tags.matrix, tags.range
    context.sample_aspect_ratio = film.sample_aspect
    if target.codec == "hevc" and target.container in ("mp4", "mov"):
        context.codec_tag = "hvc1"  # QuickTime and Safari play no other
    if film.display_matrix is not None:
        stream.set_display_matrix(film.display_matrix)
    if (context.width, context.height) != (film.stored_width, film.stored_height):
        log.warning(
            "%s holds even sizes only: %dx%d becomes %dx%d by repeating the last pixels.",
            *(target.codec, film.stored_width, film.stored_height, context.width, context.height),
        )
    in_bitstream = target.container in ("mp4", "mov") or target.codec in ("h264", "hevc")
    if film.sample_aspect != 1 and not in_bitstream:
        log.warning(
            "%s in this container loses the shape of the pixels (%s): mp4 keeps it.", target.codec, film.sample_aspect
        )
    return stream


def _size(film: Film, target: Target) -> tuple[int, int]:
    layout = layout_of(target.pix_fmt)
    across, down = (layout.across, layout.down) if target.even else (1, 1)
    return -(-film.stored_width // across) * across, -(-film.stored_height // down) * down


def _native(frame: Frame, film: Film, target: Target) -> av.VideoFrame:
    """Return the frame as the encoder takes it; a frame read from the film and not edited keeps its very planes."""
    picture = frame.picture
    if (picture.size) != (film.width, film.height):
        raise MediaError(
            f"frame {frame.index} is {picture.size[0]}x{picture.size[1]}, the film {film.width}x{film.height}."
        )
    if isinstance(picture, AvPicture) and picture.frame.format.name == film.pix_fmt:
        native = picture.edited(frame.edits) if frame.edits else picture.frame
    else:
        native = from_pixels(frame.pixels, film.pix_fmt, film.tags, film.colour, film.turn)
    width, height = _size(film, target)
    if target.pix_fmt != film.pix_fmt:
        will = understand(target.tags, target.pix_fmt, width, height)
        native = convert(native, target.pix_fmt, film.colour, _same_matrix(film, target, will))
    if (width, height) != (native.width, native.height):
        native = copy_frame(native, (0, 0, width, height))
    target.tags.stamp(native)
    return native


def _same_matrix(film: Film, target: Target, will: Colour) -> Colour:
    """An untagged film stays untagged, so its matrix must not change on the way."""
    same = layout_of(film.pix_fmt).kind == layout_of(target.pix_fmt).kind
    return Colour(film.colour.matrix, will.full) if same else will


def _duration(film: Film, tick: int) -> int:
    """Return how long the frame at a tick is shown."""
    at = bisect_left(film.ticks, tick)
    if at + 1 < len(film.ticks) and film.ticks[at] == tick:
        return film.ticks[at + 1] - tick
    return film.last
