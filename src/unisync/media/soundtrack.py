"""The sound beside a film being written: packets copied as they are where the container takes them, else encoded."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from fractions import Fraction

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet

from unisync.errors import MediaError
from unisync.media.probe import open_input
from unisync.media.sound import Speech, blocks, origin, sound_stream

COPIED = {
    "mp4": ("aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"),
    "mov": ("aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_s16be", "pcm_f32le"),
    "matroska": (
        *("aac", "mp3", "ac3", "eac3", "opus", "vorbis", "flac", "dts", "truehd", "alac"),
        *("pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_u8"),
    ),
    "webm": ("opus", "vorbis"),
}
"""Sound that each container takes as it is."""

_ENCODERS = {"mp4": ("aac", 192_000), "mov": ("aac", 192_000), "matroska": ("flac", 0), "webm": ("libopus", 160_000)}

# Matroska has no edit list: a packet before second 0 would push the whole film later (Opus tells its delay).
_NO_EARLY_PACKETS = {"matroska": ("opus",), "webm": ("opus",)}


class Soundtrack:
    """One sound stream of an output, handed over packet by packet as the film's time goes on."""

    def __init__(self, speech: Speech, output: OutputContainer, container: str, seconds: Fraction) -> None:
        """Add the stream to the output; seconds: the film's length, where the sound ends at the latest."""
        self.speech = speech
        self.start = Fraction(speech.start)
        self.end = seconds
        if speech.stop is not None and not speech.repeats:
            self.end = min(seconds, Fraction(speech.stop) - self.start)
        self.input = open_input(speech.path)
        self.packets: Generator[Packet[AudioStream]]
        try:
            own = sound_stream(self.input, speech.path)
            codec = own.codec_context.codec.canonical_name
            if codec in COPIED[container] and not speech.repeats:
                keeps_early = codec in _NO_EARLY_PACKETS.get(container, (codec,))
                self.packets = _copied(self.input, own, self, output.add_stream_from_template(own), keeps_early)
            else:
                self.packets = _encoded(self, _encoder(output, own, container))
        except BaseException:
            self.input.close()
            raise
        self._next: Packet[AudioStream] | None = None
        self._done = False

    def until(self, seconds: Fraction | None) -> Iterator[Packet[AudioStream]]:
        """Yield the packets that start before a time, or all that are left."""
        while not self._done:
            packet = self._next or next(self.packets, None)
            self._next = packet
            if packet is None:
                self._done = True
                return
            if seconds is not None and packet.pts is not None and packet.pts * packet.time_base >= seconds:
                return
            self._next = None
            yield packet

    def close(self) -> None:
        """Let go of the packets, then of the speech's file."""
        self._next = None
        self.packets.close()
        self.input.close()


def _copied(
    container: InputContainer, own: AudioStream, track: Soundtrack, target: AudioStream, keeps_early: bool
) -> Generator[Packet[AudioStream]]:
    zero = origin(track.speech.path, own) + track.start
    for packet in container.demux(own):
        if packet.pts is None or packet.size == 0:
            continue
        shift = round(zero / packet.time_base)
        packet.pts -= shift
        packet.dts = packet.pts
        lasts = packet.duration or 0
        # One packet too many where it can be hidden: a decoder needs it to start well.
        if packet.pts + 2 * lasts <= 0 or (packet.pts < 0 and not keeps_early):
            continue
        left = int(track.end / packet.time_base) - packet.pts
        if left <= 0:
            break
        if lasts > left:
            packet.duration = left
        packet.stream = target
        yield packet


def _encoder(output: OutputContainer, own: AudioStream, container: str) -> AudioStream:
    name, bit_rate = _ENCODERS[container]
    rates = sorted(av.Codec(name, "w").audio_rates or [own.codec_context.sample_rate])
    rate = next((known for known in rates if known >= own.codec_context.sample_rate), rates[-1])
    stream = output.add_stream(name, rate=rate)
    assert isinstance(stream, AudioStream)
    num = own.codec_context.channels
    stream.codec_context.layout = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}.get(num, "stereo")
    if bit_rate:
        stream.bit_rate = bit_rate
    deep = own.codec_context.format is not None and own.codec_context.format.name in ("s32", "s32p")
    if name == "flac" and deep:
        stream.codec_context.format = "s32"
    stream.codec_context.time_base = Fraction(1, rate)
    return stream


def _encoded(track: Soundtrack, target: AudioStream) -> Generator[Packet[AudioStream]]:
    at, rate = 0, 1
    for samples, rate in _cut(track):
        layout = {1: "mono", 2: "stereo", 3: "2.1", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples), "fltp", layout[samples.shape[0]])
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), at
        at += samples.shape[1]
        yield from target.encode(frame)
    if at == 0:
        raise MediaError(f"{track.speech.path} has no sound where the film needs it: choose another start, or file.")
    yield from target.encode(None)


def _cut(track: Soundtrack) -> Iterator[tuple[np.ndarray[tuple[int, ...], np.dtype[np.float32]], int]]:
    """Yield the speech's samples up to the end, from its beginning again as often as it repeats."""
    at = 0
    while True:
        begin = at
        for samples, rate in blocks(track.speech.path, start=track.start):
            end = int(track.end * rate)
            if track.speech.repeats and track.speech.stop is not None:
                end = min(end, begin + int((Fraction(track.speech.stop) - track.start) * rate))
            samples = samples[:, : end - at]
            if samples.shape[1]:
                yield samples, rate
                at += samples.shape[1]
            if at >= end:
                break
        if not track.speech.repeats or at == begin or at >= int(track.end * rate):
            return
