from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from clips import CLIPS, needs_clips
from films import (
    RATES,
    click_track,
    clicks,
    draw_face,
    flash_indices,
    flashes,
    make_film,
    make_sound,
    make_still,
    steady,
    uneven,
)
from unisync.errors import Cancelled, MediaError, OptionError
from unisync.media import (
    AvPicture,
    EncodeOptions,
    Film,
    Speech,
    check_out,
    drawn,
    extend,
    probe,
    read_frames,
    read_sound,
    write_film,
)
from unisync.media.encode import target_of
from unisync.media.layout import Turn, layout_of, plane
from unisync.types import ArrayPicture, Edit, Frame

FAST = EncodeOptions("h264", preset="ultrafast")
FFV1 = EncodeOptions("ffv1")
TIMES = {**{f"{float(rate):.3f}": steady(rate) for rate in RATES}, "variable": uneven()}
PLANAR = [
    *("yuv420p", "yuv422p", "yuv444p", "yuv440p", "yuv411p", "yuv420p10le", "yuv422p10le", "yuv444p10le"),
    *("yuv420p12le", "yuv444p16le", "gray", "gray10le", "bgr0", "gbrp10le", "gbrp16le"),
]


def planes(frame: Frame) -> list[NDArray[Any]]:
    assert isinstance(frame.picture, AvPicture)
    native = frame.picture.frame
    return [plane(native, index) for index in range(len(native.planes))]


def ragged_edit(width: int, height: int, seed: int = 0) -> Edit:
    """An edit whose rectangle and mask keep to no grid, and which reaches the right and lower edge."""
    random = np.random.default_rng(seed)
    x, y = 33, 21
    w, h = width - x, height - y
    mask = np.zeros((h, w), np.float32)
    mask[5 : h // 2, 4 : w // 2 + 1] = 0.5
    mask[h // 2 :, w // 3 :] = 1
    mask[random.random((h, w)) < 0.02] = 0
    pixels = np.broadcast_to(np.array((210, 60, 90), np.uint8), (h, w, 3)).copy()
    return Edit(x, y, pixels, mask)


def changed_rgb(edit: Edit, width: int, height: int) -> NDArray[np.bool_]:
    mask = np.zeros((height, width), bool)
    h, w = edit.mask.shape
    mask[edit.y : edit.y + h, edit.x : edit.x + w] = edit.mask > 0
    return mask


def slow_chroma_mask(mask: NDArray[np.bool_], across: int, down: int) -> NDArray[np.bool_]:
    """The plain definition: a chroma sample may change where every pixel it covers may."""
    height, width = mask.shape
    rows, columns = -(-height // down), -(-width // across)
    cells = np.zeros((rows, columns), bool)
    for row in range(rows):
        for column in range(columns):
            cells[row, column] = mask[row * down : (row + 1) * down, column * across : (column + 1) * across].all()
    return cells


@pytest.mark.parametrize("times", TIMES.values(), ids=TIMES.keys())
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_flash_and_click_stay_together(tmp_path: Path, times: list[Fraction], suffix: str) -> None:
    film = probe(make_film(tmp_path / "film.mp4", times, sound=False))
    white = [times[index] for index in flash_indices(times)]
    speech = make_sound(tmp_path / "speech.wav", white, float(film.duration))
    out = tmp_path / f"out{suffix}"
    assert write_film(read_frames(film), out, film, Speech(speech), FAST) == len(times)
    written = probe(out)
    exact = suffix == ".mp4"  # Matroska counts milliseconds
    assert all(abs(a - b) <= (0 if exact else Fraction(1, 1000)) for a, b in zip(written.seconds, times, strict=True))
    assert abs(written.duration - film.duration) <= (0 if exact else Fraction(1, 500))
    seen = flashes((frame.seconds, frame.pixels) for frame in read_frames(written))
    heard = clicks(read_sound(out, 48000).samples, 48000)
    assert len(seen) == len(heard) == len(white)
    for flash, click in zip(white, heard, strict=True):
        assert abs(click - round(flash * 48000)) <= (48 if exact else 1)  # AAC smears a click


@pytest.mark.parametrize("pix_fmt", PLANAR)
def test_outside_the_mask_every_bit_stays(tmp_path: Path, pix_fmt: str) -> None:
    size = (128, 96)
    film = probe(make_film(tmp_path / "film.mkv", steady(25, 0.2), size, "ffv1", pix_fmt, sound=False))
    edit = ragged_edit(*size)
    out = tmp_path / "out.mkv"
    write_film(
        (frame.edited(edit) if frame.index == 2 else frame for frame in read_frames(film)), out, film, None, FFV1
    )
    _assert_only_the_mask_changed(film, probe(out), edit)


@pytest.mark.parametrize("size", [(129, 97), (128, 97), (131, 96)])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv420p10le"])
def test_outside_the_mask_every_bit_stays_at_odd_sizes(tmp_path: Path, size: tuple[int, int], pix_fmt: str) -> None:
    film = probe(make_film(tmp_path / "film.mkv", steady(25, 0.2), size, "ffv1", pix_fmt, sound=False))
    edit = ragged_edit(*size)
    out = tmp_path / "out.mkv"
    write_film(
        (frame.edited(edit) if frame.index == 2 else frame for frame in read_frames(film)), out, film, None, FFV1
    )
    _assert_only_the_mask_changed(film, probe(out), edit)


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotation_is_kept_and_edits_land_upright(tmp_path: Path, rotation: int) -> None:
    size = (96, 128)
    path = make_film(tmp_path / "film.mkv", steady(25, 0.2), size, "ffv1", sound=False, rotation=rotation)
    film, edit, out = probe(path), ragged_edit(*size), tmp_path / "out.mkv"
    write_film(
        (frame.edited(edit) if frame.index == 2 else frame for frame in read_frames(film)), out, film, None, FFV1
    )
    written = probe(out)
    assert (written.rotation, written.width, written.height) == (rotation % 360, *size)
    mask = changed_rgb(edit, *size)
    for before, after in zip(read_frames(film), read_frames(written), strict=True):
        if after.index == 2:
            assert np.array_equal(before.pixels[~mask], after.pixels[~mask])
            assert np.median(np.abs(after.pixels[mask].astype(int) - (210, 60, 90))) <= 2
        else:
            assert all(map(np.array_equal, planes(before), planes(after)))


def _assert_only_the_mask_changed(film: Film, written: Film, edit: Edit) -> None:
    layout = layout_of(film.pix_fmt)
    assert written.pix_fmt == film.pix_fmt
    assert written.seconds == film.seconds
    mask = changed_rgb(edit, film.width, film.height)
    cells = slow_chroma_mask(mask, layout.across, layout.down)
    for before, after in zip(read_frames(film), read_frames(written), strict=True):
        if before.index != 2:
            assert all(map(np.array_equal, planes(before), planes(after)))
            continue
        for number, (old, new) in enumerate(zip(planes(before), planes(after), strict=True)):
            may = cells if number and layout.kind == "yuv" else mask
            assert np.array_equal(old[~may], new[~may])
            assert (old[may] != new[may]).mean() > 0.9
        inside = slow_chroma_mask(mask, layout.across, layout.down).repeat(layout.down, 0).repeat(layout.across, 1)
        inside = inside[: film.height, : film.width]
        wanted = np.array((210, 60, 90))
        if layout.kind == "gray":
            wanted = np.full(3, round(float(wanted @ [0.299, 0.587, 0.114])))
        assert np.abs(after.pixels[inside].astype(int) - wanted).max() <= 3
        # 4:1:1 and 4:4:0 pass through swscale's general path, which looks at a chroma sample's neighbours
        if (layout.across, layout.down) in ((1, 1), (2, 1), (2, 2)):
            assert np.array_equal(before.pixels[~mask], after.pixels[~mask])


@pytest.mark.parametrize("rotation", [0, 90, 180])
@pytest.mark.parametrize("size", [(128, 96), (131, 97)])
@pytest.mark.parametrize("pix_fmt", PLANAR)
def test_a_part_of_a_frame_is_read_as_the_whole_is(
    tmp_path: Path, pix_fmt: str, size: tuple[int, int], rotation: int
) -> None:
    path = make_film(tmp_path / "film.mkv", steady(25, 0.08), size, "ffv1", pix_fmt, sound=False)
    picture = next(read_frames(probe(path))).picture
    assert isinstance(picture, AvPicture)
    picture = AvPicture(picture.frame, picture.colour, Turn(rotation == 90, rotation > 0, rotation == 180))
    whole, layout = picture.rgb(), layout_of(pix_fmt)
    height, width = whole.shape[:2]
    exact = (layout.across, layout.down) in ((1, 1), (2, 1), (2, 2))  # the others look at neighbours
    for left, top, right, bottom in ((0, 0, 30, 20), (17, 33, 61, 80), (width - 9, height - 40, width, height)):
        part, same = picture.rgb((left, top, right, bottom)), whole[top:bottom, left:right]
        rim = np.s_[:] if exact else np.s_[4:-4, 4:-4]
        assert part.shape == same.shape
        assert np.array_equal(part[rim], same[rim])


@pytest.mark.parametrize("tags", [(1, 1, 1, 1), (6, 6, 6, 1), (9, 16, 9, 1), (1, 1, 1, 2), (2, 2, 2, 0)])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "yuv420p10le"])
def test_pixels_put_back_as_they_were_read_change_nothing_to_speak_of(
    tmp_path: Path, pix_fmt: str, tags: tuple[int, int, int, int]
) -> None:
    film = probe(
        make_film(tmp_path / "film.mkv", steady(25, 0.2), codec="ffv1", pix_fmt=pix_fmt, tags=tags, sound=False)
    )
    frame = list(read_frames(film))[2]
    same = Edit(0, 0, frame.pixels, np.ones((96, 128), np.float32))
    assert isinstance(frame.picture, AvPicture)
    again = frame.picture.edited((same,))
    step = 2 ** (film.bits - 8)
    for old, new in zip(
        planes(frame), planes(Frame(0, Fraction(0), AvPicture(again, film.colour, film.turn))), strict=True
    ):
        difference = new.astype(int) - old.astype(int)
        assert np.quantile(np.abs(difference), 0.99) <= step  # colours that RGB cannot hold are clipped
        assert abs(difference.mean()) < 0.1 * step


@pytest.mark.parametrize(
    ("codec", "suffix", "pix_fmt"),
    [
        ("h264", ".mp4", "yuv420p"),
        ("h264", ".mov", "yuv420p10le"),
        ("h264", ".mkv", "yuv444p"),
        ("hevc", ".mp4", "yuv420p10le"),
        ("av1", ".mp4", "yuv420p10le"),
        ("av1", ".webm", "yuv420p"),
        ("vp9", ".webm", "yuv444p"),
        ("vp9", ".mp4", "yuv420p"),
        ("prores", ".mov", "yuv422p10le"),
        ("ffv1", ".mkv", "yuv420p12le"),
    ],
)
def test_tags_depth_rotation_and_shape_survive_every_codec(
    tmp_path: Path, codec: str, suffix: str, pix_fmt: str, capfd: pytest.CaptureFixture[str]
) -> None:
    tags = (9, 16, 9, 1)
    size, times = (128, 160), steady(25, 0.4)
    path = tmp_path / "film.mkv"
    film = probe(make_film(path, times, size, "ffv1", pix_fmt, tags=tags, rotation=-90, sound=False))
    out = tmp_path / f"out{suffix}"
    preset = None if codec in ("prores", "ffv1") else "ultrafast"
    write_film(read_frames(film), out, film, None, EncodeOptions(codec, preset=preset))
    written = probe(out)
    assert (written.tags.primaries, written.tags.trc, written.tags.matrix, written.tags.range) == tags
    assert written.pix_fmt == pix_fmt
    assert (written.codec, written.rotation, written.width, written.height) == (codec, 270, 128, 160)
    assert written.seconds == film.seconds
    difference = list(read_frames(written))[3].pixels.astype(int) - list(read_frames(film))[3].pixels
    assert np.abs(difference).mean() < 5
    assert capfd.readouterr() == ("", "")


def test_the_shape_of_pixels_is_kept(tmp_path: Path) -> None:
    film = probe(make_film(tmp_path / "film.mp4", steady(25, 0.4), aspect=Fraction(4, 3)))
    assert film.sample_aspect == Fraction(4, 3)
    write_film(read_frames(film), tmp_path / "out.mp4", film, None, FAST)
    assert probe(tmp_path / "out.mp4").sample_aspect == Fraction(4, 3)


def test_prores_takes_8_bit_up_and_hevc_is_tagged_for_quicktime(tmp_path: Path) -> None:
    film = probe(make_film(tmp_path / "film.mp4", steady(25, 0.4)))
    write_film(read_frames(film), tmp_path / "out.mov", film, None, EncodeOptions("prores"))
    assert probe(tmp_path / "out.mov").pix_fmt == "yuv422p10le"
    write_film(read_frames(film), tmp_path / "out.mp4", film, None, EncodeOptions("hevc", preset="ultrafast"))
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec_tag == "hvc1"
    data = (tmp_path / "out.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("name", ["face.png", "face.jpg"])
def test_a_still_becomes_a_film_that_players_show(tmp_path: Path, name: str) -> None:
    film = extend(probe(make_still(tmp_path / name)), 1, "hold")
    speech = make_sound(tmp_path / "speech.wav", [0, 0.5], 1)
    out = tmp_path / "out.mp4"
    assert write_film(read_frames(film), out, film, Speech(speech), FAST) == 25
    written = probe(out)
    assert written.pix_fmt in ("yuv420p", "yuvj420p")
    assert np.abs(list(read_frames(written))[20].pixels.astype(int) - draw_face(128, 96, 0.5)).mean() < 5


def test_odd_sizes_become_even_where_the_codec_must(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    film = probe(make_film(tmp_path / "film.mkv", steady(25, 0.2), (129, 97), "ffv1", sound=False))
    write_film(read_frames(film), tmp_path / "out.mp4", film, None, FAST)
    written = probe(tmp_path / "out.mp4")
    assert (written.width, written.height) == (130, 98)
    assert "129x97 becomes 130x98" in caplog.text
    before, after = list(read_frames(film))[2].pixels, list(read_frames(written))[2].pixels
    assert np.abs(after[:97, :129].astype(int) - before).mean() < 3


def test_drawn_frames_are_written_in_the_right_colours(tmp_path: Path) -> None:
    film = drawn("drawing", 128, 96, 25, 5)
    face = draw_face(128, 96, 0.5)
    frames = (Frame(index, film.seconds[index], ArrayPicture(face)) for index in range(5))
    write_film(frames, tmp_path / "out.mkv", film, None, FFV1)
    written = probe(tmp_path / "out.mkv")
    assert written.seconds == film.seconds
    assert np.abs(next(read_frames(written)).pixels.astype(int) - face).mean() < 3


def test_a_preset_takes_the_place_of_all_that_is_usual(tmp_path: Path) -> None:
    film = drawn("a", 128, 96, 25, 5)

    def told(codec: str | None = None, preset: str | None = None) -> dict[str, str]:
        return target_of(film, tmp_path / "out.mkv", EncodeOptions(codec, preset=preset)).options

    assert told() == {"preset": "veryfast", "subq": "1", "partitions": "i8x8,i4x4", "crf": "14"}
    assert told(preset="slow") == {"preset": "slow", "crf": "14"}
    assert told(codec="hevc", preset="slow") == told(codec="hevc") | {"preset": "slow"}
    assert told(codec="vp9")["cpu-used"] == "4" and told(codec="vp9", preset="slow")["cpu-used"] == "2"


@pytest.mark.parametrize(
    ("name", "encode", "words"),
    [
        ("out.avi", EncodeOptions(), "should end in"),
        ("out", EncodeOptions(), "should end in"),
        ("out.webm", EncodeOptions("h264"), "cannot hold h264"),
        ("out.mp4", EncodeOptions("prores"), "cannot hold prores"),
        ("out.mp4", EncodeOptions("ffv1"), ".mkv"),
        ("out.mp4", EncodeOptions("divx"), "no codec we write"),
        ("out.mp4", EncodeOptions("h264", crf=52), "between 0 and 51"),
        ("out.mkv", EncodeOptions("ffv1", crf=5), "no crf"),
        ("out.mkv", EncodeOptions("ffv1", preset="fast"), "no presets"),
        ("out.mp4", EncodeOptions("h264", preset="quick"), "no preset"),
        ("out.webm", EncodeOptions("vp9"), "hevc"),
    ],
)
def test_impossible_options_are_refused_before_work(
    tmp_path: Path, name: str, encode: EncodeOptions, words: str
) -> None:
    film = probe(make_film(tmp_path / "film.mkv", steady(25, 0.2), codec="ffv1", pix_fmt="yuv420p10le", sound=False))

    def frames() -> Iterator[Frame]:
        pytest.fail("work began")
        yield

    with pytest.raises(OptionError, match=words) as caught:
        write_film(frames(), tmp_path / name, film, None, encode)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / name).exists()


def test_out_must_not_be_a_source_nor_in_a_bad_place(tmp_path: Path) -> None:
    path = make_film(tmp_path / "film.mp4", steady(25, 0.2))
    film = probe(path)
    speech = make_sound(tmp_path / "speech.mp4", [0], 1)
    (tmp_path / "link.mp4").symlink_to(path)
    (tmp_path / "folder.mp4").mkdir()
    for name in ("film.mp4", "link.mp4", "speech.mp4"):
        with pytest.raises(OptionError, match="itself"):
            check_out(tmp_path / name, film, speech, EncodeOptions())
    with pytest.raises(OptionError, match="is a folder"):
        check_out(tmp_path / "folder.mp4", film, speech, EncodeOptions())
    with pytest.raises(MediaError, match="no folder"):
        check_out(tmp_path / "nowhere" / "out.mp4", film, speech, EncodeOptions())
    with pytest.raises(MediaError, match="no folder"):
        check_out(path / "out.mp4", film, speech, EncodeOptions())
    with pytest.raises(MediaError, match="cannot be written to"):
        check_out(Path("/proc/self/out.mp4"), film, speech, EncodeOptions())


def test_an_error_on_the_way_leaves_everything_as_it_was(tmp_path: Path) -> None:
    film = probe(make_film(tmp_path / "film.mp4", steady(25, 0.4)))
    out = tmp_path / "out.mp4"
    out.write_text("before")
    closed = []

    def frames() -> Iterator[Frame]:
        try:
            yield from read_frames(film, 0, 5)
            raise Cancelled("enough")
        finally:
            closed.append(True)

    with pytest.raises(Cancelled, match="enough"):
        write_film(frames(), out, film, None, FAST)
    with pytest.raises(MediaError, match="no frame"):
        write_film(iter(()), out, film, None, FAST)
    assert out.read_text() == "before"
    assert closed == [True]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mp4", "out.mp4"]


def test_a_killed_run_leaves_no_out(tmp_path: Path) -> None:
    path = make_film(tmp_path / "film.mp4", steady(25, 2))
    script = """
import os, signal, sys
from unisync.media import EncodeOptions, probe, read_frames, write_film
film = probe(sys.argv[1])
def frames():
    for frame in read_frames(film):
        if frame.index == 45:
            os.kill(os.getpid(), signal.SIGKILL)
        yield frame
write_film(frames(), sys.argv[2], film, None, EncodeOptions("ffv1"))
"""
    out = tmp_path / "out.mkv"
    done = subprocess.run([sys.executable, "-c", script, str(path), str(out)], check=False, capture_output=True)
    assert done.returncode == -9, done.stderr.decode()
    assert not out.exists()


def test_the_films_own_sound_is_copied_as_it_is(tmp_path: Path) -> None:
    film = probe(make_film(tmp_path / "film.mp4", steady(25)))
    write_film(read_frames(film), tmp_path / "out.mp4", film, None, FAST)
    packets = []
    for path in (film.path, tmp_path / "out.mp4"):
        with av.open(str(path)) as container:
            packets.append([(packet.pts, bytes(packet)) for packet in container.demux(audio=0) if packet.size])
    assert packets[0] == packets[1]


def test_a_late_film_keeps_picture_and_sound_together(tmp_path: Path) -> None:
    """The source's picture starts at 1.4 s of its own clock and its sound at 1.2 s."""
    path = tmp_path / "late.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        audio = container.add_stream("flac", rate=48000)
        audio.codec_context.layout = "mono"
        for index in range(25):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 255 * (index == 10), np.uint8), format="rgb24")
            frame.pts, frame.time_base = 35 + index, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        samples = click_track([Fraction(6, 10)], 1.2)  # 1.2 + 0.6 = 1.4 + 10 / 25
        sound = av.AudioFrame.from_ndarray((samples * 30000).astype(np.int16), format="s16", layout="mono")
        sound.sample_rate, sound.time_base, sound.pts = 48000, Fraction(1, 48000), round(1.2 * 48000)
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    film = probe(path)
    assert film.seconds[0] == 0
    for name in ("out.mkv", "out.mp4"):
        write_film(read_frames(film), tmp_path / name, film, None, FAST)
        for known in (film, probe(tmp_path / name)):
            assert flashes((frame.seconds, frame.pixels) for frame in read_frames(known)) == [Fraction(10, 25)]
            (click,) = clicks(read_sound(known.path, 48000).samples, 48000)
            assert abs(click - 0.4 * 48000) <= 48


@needs_clips
def test_a_real_film_comes_through_lossless(tmp_path: Path) -> None:
    assert CLIPS is not None
    film = probe(CLIPS / "spokeswoman-spanish-360.mp4")
    write_film(read_frames(film, 0, 30), tmp_path / "out.mkv", film, None, FFV1)
    for before, after in zip(read_frames(film, 0, 30), read_frames(probe(tmp_path / "out.mkv")), strict=True):
        assert all(map(np.array_equal, planes(before), planes(after)))
        assert np.array_equal(before.pixels, after.pixels)
