from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from clips import CLIPS, needs_clips
from films import (
    RATES,
    draw_face,
    flash_indices,
    flashes,
    make_film,
    make_sound,
    make_still,
    make_text,
    make_truncated,
    mouth_opening,
    steady,
    uneven,
)
from unisync.errors import MediaError
from unisync.media import cut, extend, probe, read_frames

TIMES = {**{f"{float(rate):.3f}": steady(rate) for rate in RATES}, "variable": uneven()}


@pytest.mark.parametrize("times", TIMES.values(), ids=TIMES.keys())
def test_times_are_exact(tmp_path: Path, times: list[Fraction]) -> None:
    film = probe(make_film(tmp_path / "film.mp4", times))
    frames = list(read_frames(film))
    assert film.seconds == tuple(times)
    assert [frame.seconds for frame in frames] == times
    assert [frame.index for frame in frames] == list(range(len(times)))
    white = flashes((frame.seconds, frame.pixels) for frame in frames)
    assert white == [times[index] for index in flash_indices(times)]


@pytest.mark.parametrize("rate", RATES, ids=str)
def test_the_average_rate_is_the_files(tmp_path: Path, rate: Fraction) -> None:
    film = probe(make_film(tmp_path / "film.mp4", steady(rate), rate=rate))
    assert film.rate == rate
    assert film.duration == len(film) / rate


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {"g": "12", "bf": "3", "preset": "medium", "x264-params": "open-gop=1"}),
        ("a.mkv", "libx265", {"x265-params": "log-level=none:keyint=12:open-gop=1"}),
        ("a.webm", "libvpx-vp9", {"g": "12", "deadline": "realtime", "cpu-used": "8"}),
        ("a.mkv", "ffv1", {}),
        ("a.avi", "mpeg4", {"bf": "2", "g": "12"}),
        ("a.mkv", "libvpx", {"g": "12", "deadline": "good", "auto-alt-ref": "1", "lag-in-frames": "16"}),
    ],
)
def test_any_frame_can_be_read_first(tmp_path: Path, name: str, codec: str, options: dict[str, str]) -> None:
    film = probe(make_film(tmp_path / name, steady(25, 1.6), codec=codec, options=options, sound=False))
    whole = [(frame.index, frame.seconds, frame.pixels) for frame in read_frames(film)]
    assert len(whole) == len(film) == 40
    for start in (1, 11, 12, 13, 25, 39):
        part = list(read_frames(film, start, start + 3))
        assert [frame.index for frame in part] == list(range(start, min(start + 3, 40)))
        for frame in part:
            _, seconds, pixels = whole[frame.index]
            assert frame.seconds == seconds
            assert np.array_equal(frame.pixels, pixels)


def test_nothing_is_read_from_an_empty_stretch(tmp_path: Path) -> None:
    film = probe(make_film(tmp_path / "film.mp4", steady(25, 0.4)))
    assert list(read_frames(film, 3, 3)) == []
    assert list(read_frames(film, len(film))) == []
    with pytest.raises(ValueError, match="start"):
        next(read_frames(film, len(film) + 1))


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotated_films_stand_upright(tmp_path: Path, rotation: int) -> None:
    film = probe(make_film(tmp_path / "film.mp4", steady(25, 0.4), (96, 128), rotation=rotation))
    assert (film.width, film.height, film.rotation) == (96, 128, rotation % 360)
    frame = list(read_frames(film))[3]
    assert frame.picture.size == (96, 128)
    difference = np.abs(frame.pixels.astype(int) - draw_face(96, 128, mouth_opening(frame.seconds)))
    assert difference.mean() < 8


@pytest.mark.parametrize("matrix", [None, 1])
def test_mirrored_films_stand_upright(tmp_path: Path, matrix: int | None) -> None:
    import av

    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        if matrix:
            stream.set_display_matrix([-65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30])
        face = draw_face(128, 96, 0.5)
        face[:, :20] = 0
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(face, format="rgb24")))
        container.mux(stream.encode(None))
    pixels = next(read_frames(probe(path))).pixels
    dark = pixels[:, -18:] if matrix else pixels[:, :18]
    assert dark.mean() < 10


@pytest.mark.parametrize("size", [(129, 97), (127, 96), (128, 95)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    film = probe(make_film(tmp_path / "film.mkv", steady(25, 0.2), size, codec="ffv1"))
    frame = list(read_frames(film))[2]
    assert frame.pixels.shape == (size[1], size[0], 3)
    difference = np.abs(frame.pixels.astype(int) - draw_face(*size, mouth_opening(frame.seconds)))
    assert difference.mean() < 4


@pytest.mark.parametrize(
    ("pix_fmt", "bits"), [("yuv420p10le", 10), ("yuv422p10le", 10), ("yuv444p", 8), ("gray", 8), ("bgr0", 8)]
)
def test_every_depth_and_layout_reads_the_right_colours(tmp_path: Path, pix_fmt: str, bits: int) -> None:
    film = probe(make_film(tmp_path / "film.mkv", steady(25, 0.2), codec="ffv1", pix_fmt=pix_fmt))
    assert film.bits == bits
    frame = list(read_frames(film))[2]
    face = draw_face(128, 96, mouth_opening(frame.seconds)).astype(float)
    if pix_fmt == "gray":
        face = (face @ [0.299, 0.587, 0.114])[..., None]
    assert np.abs(frame.pixels - face).mean() < 4


@pytest.mark.parametrize(("matrix", "name"), [(1, "ITU709"), (6, "ITU601"), (9, "BT2020")])
@pytest.mark.parametrize("full", [False, True])
def test_matrix_and_range_are_the_films_own(tmp_path: Path, matrix: int, name: str, full: bool) -> None:
    import av

    path = tmp_path / "film.mkv"
    wanted = np.full((64, 64, 3), (200, 50, 20), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, 1 + full
        frame = av.VideoFrame.from_ndarray(wanted, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=name, dst_color_range="JPEG" if full else "MPEG")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    film = probe(path)
    assert film.colour.full == full
    assert np.abs(next(read_frames(film)).pixels.astype(int) - wanted).max() <= 3


@pytest.mark.parametrize("name", ["face.png", "face.jpg"])
def test_a_still_is_a_film_of_one_frame_and_can_be_held(tmp_path: Path, name: str) -> None:
    film = probe(make_still(tmp_path / name))
    assert film.still
    assert len(film) == 1
    held = extend(film, 1, "hold")
    frames = list(read_frames(held))
    assert [frame.seconds for frame in frames] == steady(25, 1)
    assert np.array_equal(frames[0].pixels, frames[24].pixels)
    assert np.abs(frames[0].pixels.astype(int) - draw_face(128, 96, 0.5)).mean() < 8


def test_names_that_ffmpeg_takes_for_patterns_or_protocols(tmp_path: Path) -> None:
    for name in ("a:b %03d ü.png", "concat:x.png"):
        assert probe(make_still(tmp_path / "plain.png").rename(tmp_path / name)).still


@pytest.mark.parametrize("how", ["loop", "bounce"])
def test_virtual_films_show_the_frames_of_their_source(tmp_path: Path, how: str) -> None:
    film = probe(make_film(tmp_path / "film.mp4", uneven(1)))
    whole = [frame.pixels for frame in read_frames(film)]
    longer = extend(film, 3, how)  # type: ignore[arg-type]
    assert longer.source is not None
    for start, stop in ((0, None), (len(film) - 2, len(film) + 5)):
        for frame in read_frames(longer, start, stop):
            assert frame.seconds == longer.seconds[frame.index]
            assert np.array_equal(frame.pixels, whole[longer.source[frame.index]])
    assert len(list(read_frames(longer))) == len(longer)
    assert len(list(read_frames(cut(film, 0.5)))) == len(cut(film, 0.5)) < len(film)


def test_a_film_that_breaks_off_ends_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = make_film(tmp_path / "whole.mp4", steady(25), options={"g": "10"}, sound=False)
    import av

    fast = tmp_path / "fast.mp4"
    with av.open(str(whole)) as source, av.open(str(fast), "w", options={"movflags": "+faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    film = probe(make_truncated(tmp_path / "cut.mp4", fast))
    with caplog.at_level(logging.WARNING):
        frames = list(read_frames(film))
    assert 10 < len(frames) < 50
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert "breaks off" in caplog.text or "damaged" in caplog.text or len(film) == len(frames)


def test_a_truncated_mkv_gives_what_there_is(tmp_path: Path) -> None:
    whole = make_film(tmp_path / "whole.mkv", steady(25), codec="ffv1")
    frames = list(read_frames(probe(make_truncated(tmp_path / "cut.mkv", whole))))
    assert 10 < len(frames) < 50


def test_bad_files_get_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "zero.mp4").touch()
    bad = {
        tmp_path / "missing.mp4": "does not exist",
        tmp_path: "is a folder",
        tmp_path / "zero.mp4": "empty",
        make_text(tmp_path / "text.mp4"): "no film",
        make_text(tmp_path / "text.txt"): "text",
        make_sound(tmp_path / "sound.wav", [0], 1): "no picture",
        make_truncated(tmp_path / "head.mp4", make_film(tmp_path / "whole.mp4", steady(25, 0.4)), 0.5): "no film",
    }
    for path, words in bad.items():
        with pytest.raises(MediaError, match=words) as caught:
            probe(path)
        assert path.name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_garbage_from_the_first_packet_on_is_an_error(tmp_path: Path) -> None:
    path = make_film(tmp_path / "film.mkv", steady(25, 0.4), codec="libx264", sound=False)
    data = bytearray(path.read_bytes())
    data[len(data) // 10 :] = bytes(len(data) - len(data) // 10)
    path.write_bytes(data)
    with pytest.raises(MediaError):
        list(read_frames(probe(path)))


@needs_clips
def test_every_real_clip_is_read() -> None:
    assert CLIPS is not None
    for path in sorted(CLIPS.iterdir()):
        if path.suffix != ".csv":
            film = probe(path)
            middle = len(film) // 2
            for frame in read_frames(film, middle, middle + 2):
                assert frame.pixels.shape == (film.height, film.width, 3)
                assert frame.seconds == film.seconds[frame.index]
