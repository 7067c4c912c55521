"""Decodes sound onto the film's clock: second 0 is the film's first frame, or, without a film, the first sample."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import numpy as np
import soxr
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from numpy.typing import NDArray

from unisync.errors import MediaError
from unisync.media.packets import decoded
from unisync.media.probe import first_stamp, open_input
from unisync.types import Floats, Sound

Samples = NDArray[np.float32]

_JITTER = Fraction(1, 50)
"""Seconds by which time stamps may disagree with the count of samples before silence is put in or samples left out."""


@dataclass(frozen=True)
class Speech:
    """The sound that goes with a film: a file's, from `start` to `stop` seconds of it, over and over if it `repeats`.

    Second `start` falls on the film's first frame; a negative one delays the sound.  stop: None is its end.
    However long, the sound ends with the film.
    """

    path: Path
    start: Fraction | float = 0
    stop: Fraction | float | None = None
    repeats: bool = False


def read_sound(path: Path | str, rate: int = 16000) -> Sound:
    """Read any file with sound, a film too, as mono.

    Raises MediaError where it has none.
    """
    path = Path(path)
    resampler: soxr.ResampleStream | None = None
    parts: list[Floats] = []
    for samples, own_rate in blocks(path, mono=True):
        if resampler is None:
            resampler = soxr.ResampleStream(own_rate, rate, 1, dtype="float32")
        parts.append(resampler.resample_chunk(samples.mean(0)))
    if resampler is None:
        raise MediaError(f"{path} has no sound from its first frame on: name a file in which someone speaks.")
    parts.append(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    return Sound(np.clip(np.concatenate(parts), -1, 1).astype(np.float32), rate)


def as_speech(samples: Samples, own_rate: int, rate: int = 16000) -> Sound:
    """Return float32 (N, channels) in [-1, 1] as mono speech."""
    return Sound(np.clip(soxr.resample(samples.mean(1), own_rate, rate), -1, 1).astype(np.float32), rate)


def sound_stream(container: InputContainer, path: Path) -> AudioStream:
    """Return the sound to use; MediaError where there is none."""
    stream = container.streams.best("audio")
    if not isinstance(stream, AudioStream):
        raise MediaError(f"{path} has no sound: name a file in which someone speaks.")
    return stream


def origin(path: Path, stream: AudioStream) -> Fraction:
    """Return where second 0 lies on the file's own clock: the first frame of its film, else the first sample."""
    film = first_stamp(path)
    if film is not None:
        return film
    return Fraction(stream.start_time or 0) * (stream.time_base or 0)


def blocks(path: Path, mono: bool = False, start: Fraction = Fraction(0)) -> Iterator[tuple[Samples, int]]:
    """Yield (float32 (channels, N), rate) without gap or overlap, from `start` seconds after second 0 on.

    mono: at most two channels, to be averaged.
    Where the sound begins later or pauses, silence fills the time; what comes before `start` is left out.
    """
    with open_input(path) as container:
        stream = sound_stream(container, path)
        zero = origin(path, stream) + start
        resampler: AudioResampler | None = None
        kind: tuple[str, str, int] | None = None
        rate, at = 0, 0
        for frame in _decoded(container, stream, path):
            own = (frame.format.name, frame.layout.name, frame.sample_rate)
            if own != kind:  # a new one, too, where a broadcast changes its format on the way
                rate, layout = rate or frame.sample_rate, _layout(frame, mono)
                resampler = AudioResampler("fltp", layout if resampler is None else resampler.layout, rate)
                kind = own
            assert resampler is not None
            begin = at
            if frame.pts is not None and frame.time_base is not None:
                begin = round((frame.pts * frame.time_base - zero) * rate)
            frame.pts = None
            for part in resampler.resample(frame):
                samples: Samples = part.to_ndarray().astype(np.float32, copy=False)
                if begin - at > (_JITTER * rate if at else 0):
                    yield np.zeros((samples.shape[0], begin - at), np.float32), rate
                    at = begin
                elif at - begin > (_JITTER * rate if at else 0):
                    samples = samples[:, at - begin :]
                if samples.shape[1]:
                    yield samples, rate
                at += samples.shape[1]
                begin = at


def _layout(frame: AudioFrame, mono: bool) -> str:
    """Name the layout; channels that the file does not name are taken for the usual ones.

    For mono FFmpeg mixes surround sound, whose speech is in the middle; stereo it would make 3 dB louder.
    """
    if mono and frame.layout.nb_channels > 2:
        return "mono"
    known = {1: "mono", 2: "stereo", 3: "2.1", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
    return known.get(frame.layout.nb_channels, "stereo")


def _decoded(container: InputContainer, stream: AudioStream, path: Path) -> Iterator[AudioFrame]:
    """Yield what can be decoded; the last packet's padding is cut off by its duration."""
    waiting: list[AudioFrame] = []
    for packet, frames in decoded(container, stream, f"{path}, sound"):
        if packet.size:
            yield from waiting
            waiting = frames
            last = Fraction(packet.duration or 0) * packet.time_base
        else:
            waiting += frames
    if len(waiting) == 1 and stream.codec_context.codec.canonical_name == "aac":
        waiting = [_shortened(waiting[0], last)]
    yield from waiting


def _shortened(frame: AudioFrame, seconds: Fraction) -> AudioFrame:
    num = round(seconds * frame.sample_rate)
    if not 0 < num < frame.samples or not frame.format.is_planar:
        return frame
    samples = frame.to_ndarray()[:, :num].copy()
    shorter = AudioFrame.from_ndarray(cast("Samples", samples), format=frame.format.name, layout=frame.layout.name)
    shorter.sample_rate, shorter.time_base, shorter.pts = frame.sample_rate, frame.time_base, frame.pts
    return shorter
