from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from films import clicks, make_film, make_sound, make_still, steady
from unisync.errors import MediaError
from unisync.media import EncodeOptions, Speech, probe, read_frames, read_sound, write_film

FAST = EncodeOptions("h264", preset="ultrafast")
MOMENTS = [Fraction(1, 2), Fraction(3, 2), Fraction(5, 2)]


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".opus", ".mp3", ".m4a", ".mkv"])
def test_second_0_is_the_first_sample(tmp_path: Path, suffix: str) -> None:
    path = make_sound(tmp_path / f"speech{suffix}", MOMENTS, 3)
    sound = read_sound(path, 48000)
    lossy = suffix not in (".wav", ".flac", ".mkv")
    assert len(clicks(sound.samples, 48000)) == 3
    for moment, click in zip(MOMENTS, clicks(sound.samples, 48000), strict=True):
        assert abs(click - moment * 48000) <= (30 if lossy else 0)
    assert abs(sound.seconds - 3) < (0.03 if lossy else 1e-9)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_resampling_moves_nothing(tmp_path: Path, rate: int) -> None:
    sound = read_sound(make_sound(tmp_path / "speech.wav", MOMENTS, 3, rate))
    assert sound.rate == 16000
    assert len(sound.samples) == 48000
    assert sound.samples.dtype == np.float32
    for moment, click in zip(MOMENTS, clicks(sound.samples, 16000), strict=True):
        assert abs(click - moment * 16000) <= 4
    assert np.abs(sound.samples).max() <= 1


def test_both_ears_count(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16000)
        stream.codec_context.layout = "stereo"
        samples = np.zeros((1, 3200), np.int16)
        samples[0, 1::2] = 16000
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert abs(read_sound(path).samples[800] - 0.5 * 16000 / 32768) < 0.01


def test_files_without_sound_say_so(tmp_path: Path) -> None:
    for path in (make_still(tmp_path / "face.png"), make_film(tmp_path / "film.mp4", steady(25, 0.2), sound=False)):
        with pytest.raises(MediaError, match="no sound"):
            read_sound(path)
    with pytest.raises(MediaError, match="does not exist"):
        read_sound(tmp_path / "missing.wav")


def _sounds(path: Path) -> tuple[str, int, list[bytes]]:
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        packets = [bytes(packet) for packet in container.demux(stream) if packet.size]
        return stream.codec_context.codec.canonical_name, stream.codec_context.sample_rate, packets


@pytest.mark.parametrize(
    ("speech", "out", "codec", "copied"),
    [
        ("s.m4a", "out.mp4", "aac", True),
        ("s.mp3", "out.mp4", "mp3", True),
        ("s.opus", "out.mp4", "opus", True),
        ("s.flac", "out.mp4", "flac", True),
        ("s.wav", "out.mp4", "aac", False),
        ("s.wav", "out.mov", "pcm_s16le", True),
        ("s.opus", "out.mov", "aac", False),
        ("s.wav", "out.mkv", "pcm_s16le", True),
        ("s.m4a", "out.mkv", "aac", True),
        ("s.mp3", "out.mkv", "mp3", True),
        ("s.opus", "out.mkv", "opus", True),
        ("s.opus", "out.webm", "opus", True),
        ("s.m4a", "out.webm", "opus", False),
        ("s.mkv", "out.mp4", "flac", True),
    ],
)
def test_speech_keeps_its_quality_and_its_place(
    tmp_path: Path, speech: str, out: str, codec: str, copied: bool
) -> None:
    film = probe(make_film(tmp_path / "film.mp4", steady(25, 3), sound=False))
    path = make_sound(tmp_path / speech, MOMENTS, 3)
    encode = EncodeOptions(preset="ultrafast")
    write_film(read_frames(film), tmp_path / out, film, Speech(path), encode)
    name, rate, packets = _sounds(tmp_path / out)
    assert (name, rate) == (codec, 48000)
    assert (b"".join(packets[1:-1]) in b"".join(_sounds(path)[2])) == copied
    written = probe(tmp_path / out)
    assert len(written) == 75
    assert written.seconds[0] == 0
    for moment, click in zip(MOMENTS, clicks(read_sound(tmp_path / out, 48000).samples, 48000), strict=True):
        assert abs(click - moment * 48000) <= 60
    with av.open(str(tmp_path / out)) as container:
        assert next(container.decode(video=0)).pts == 0, "nothing may push the picture later"


def test_a_longer_speech_is_cut_and_a_shorter_one_drops_no_frame(tmp_path: Path) -> None:
    film = probe(make_film(tmp_path / "film.mp4", steady(25, 2), sound=False))
    for seconds in (1, 5):
        for name in (f"s{seconds}.wav", f"s{seconds}.m4a"):
            path = make_sound(tmp_path / name, [Fraction(1, 2)], seconds)
            write_film(read_frames(film), tmp_path / "out.mp4", film, Speech(path), FAST)
            assert len(probe(tmp_path / "out.mp4")) == 50
            assert abs(read_sound(tmp_path / "out.mp4").seconds - min(seconds, 2)) < 0.03


def test_a_repeating_speech_repeats_to_the_sample(tmp_path: Path) -> None:
    film = probe(make_film(tmp_path / "film.mp4", steady(25, 4), sound=False))
    path = make_sound(tmp_path / "speech.wav", [Fraction(1, 4)], 0.9)
    write_film(read_frames(film), tmp_path / "out.mkv", film, Speech(path, repeats=True), FAST)
    sound = read_sound(tmp_path / "out.mkv", 48000)
    assert clicks(sound.samples, 48000) == [round((0.25 + 0.9 * turn) * 48000) for turn in range(5)]
    assert sound.seconds == 4
    write_film(read_frames(film), tmp_path / "out.mkv", film, Speech(path, stop=0.5, repeats=True), FAST)
    assert clicks(read_sound(tmp_path / "out.mkv", 48000).samples, 48000) == [12000 + 24000 * turn for turn in range(8)]


@pytest.mark.parametrize("name", ["speech.wav", "speech.m4a"])
@pytest.mark.parametrize("out", ["out.mp4", "out.mkv"])
def test_a_speech_can_start_inside_or_late_and_stop_early(tmp_path: Path, name: str, out: str) -> None:
    film = probe(make_film(tmp_path / "film.mp4", steady(25, 3), sound=False))
    path = make_sound(tmp_path / name, MOMENTS, 3)
    for start, wanted in ((1, [0.5, 1.5]), (Fraction(-1, 4), [0.75, 1.75, 2.75])):
        write_film(read_frames(film), tmp_path / out, film, Speech(path, start=start), FAST)
        heard = clicks(read_sound(tmp_path / out, 48000).samples, 48000)
        assert np.abs(np.array(heard) - np.array(wanted) * 48000).max() <= 96
    write_film(read_frames(film), tmp_path / out, film, Speech(path, stop=2), FAST)
    assert len(clicks(read_sound(tmp_path / out, 48000).samples, 48000)) == 2


def test_a_film_can_be_the_speech(tmp_path: Path) -> None:
    film = probe(make_film(tmp_path / "film.mp4", steady(25, 2), sound=False))
    other = make_film(tmp_path / "other.mp4", steady(Fraction(24000, 1001), 2))
    write_film(read_frames(film), tmp_path / "out.mp4", film, Speech(other), FAST)
    wanted, heard = (clicks(read_sound(path, 48000).samples, 48000) for path in (other, tmp_path / "out.mp4"))
    assert wanted == heard
    assert len(heard) == 2
