"""What benchmarks show to metrics: real films made from a known face."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from faces import frames, lay
from footage import dub_options, judge, next_speaker
from marks import face
from unisync.bench.footage import Footage, look, native_size, pairs
from unisync.errors import OptionError
from unisync.media import EncodeOptions, drawn, write_film
from unisync.types import Sound, Track

NUM = 45
SOUND = Sound(np.random.default_rng(0).normal(0, 0.1, 32000).astype(np.float32), 16000)


def film(path: Path, soft: bool = False) -> Path:
    """Write a face that drifts; soft: as a picture of half the size would show it."""
    pictures = [lay([(180 + i, 170, 1.4)]) for i in range(NUM)]
    if soft:
        pictures = [np.repeat(np.repeat(p[::2, ::2], 2, axis=0), 2, axis=1) for p in pictures]
    write_film(frames(pictures), path, drawn("x", 480, 360, 25, NUM), None, EncodeOptions("ffv1"))
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Footage:
    return look(film(tmp_path_factory.mktemp("film") / "source.mkv"))


def track(eyes: float) -> Track:
    """Return a track of three frames whose eyes are that many px apart."""
    landmarks = np.stack([face(size=round(eyes / 0.4))] * 3)
    ones = np.ones(3, np.float32)
    return Track("face1", 0, 3, landmarks, np.zeros((3, 4), np.float32), ones, ones)


@pytest.mark.parametrize(("eyes", "side"), [(40, 100), (100, 250), (4, 64), (900, 768)])
def test_canvases_have_the_pitch_of_the_film(eyes: float, side: int) -> None:
    assert native_size(track(eyes)) == side


def test_windows_show_every_frame_once_on_the_sources_canvases(source: Footage) -> None:
    shown = list(pairs(source, source, SOUND))
    assert [index for made, _ in shown for index in range(made.start, made.start + len(made))] == list(range(NUM))
    for made, truth in shown:
        assert (made.pixels == truth.pixels).all() and (made.landmarks == truth.landmarks).all()
        assert made.sound is SOUND and made.seconds[0] == pytest.approx(made.start / 25)
        eyes = truth.landmarks[:, [362, 263]].mean(1) - truth.landmarks[:, [33, 133]].mean(1)
        assert np.linalg.norm(eyes, axis=1) == pytest.approx(0.4 * truth.pixels.shape[1], rel=0.05)


def test_a_film_judged_by_itself(source: Footage) -> None:
    figures = judge(source, source, source, SOUND)
    assert figures["sharpness"] == figures["flicker"] == figures["seam"] == pytest.approx(1)
    assert figures["identity_shape"] == pytest.approx(0, abs=1e-3)
    assert figures["mouth_likeness"] == "no error"
    assert figures["jitter"] == figures["jitter_truth"]


def test_a_film_of_half_the_detail_is_soft(source: Footage, tmp_path: Path) -> None:
    figures = judge(look(film(tmp_path / "soft.mkv", soft=True)), source, source, SOUND)
    sharpness, likeness = figures["sharpness"], figures["mouth_likeness"]
    assert isinstance(sharpness, float) and abs(sharpness - 1) > 0.1
    assert isinstance(likeness, float) and 15 < likeness < 45


def test_lips_around_a_moment_cover_it(source: Footage) -> None:
    seconds = np.array([0.41, 0.5, 0.62])
    lips = source.around(seconds)
    assert lips is not None
    assert lips.seconds[0] <= 0.41 < lips.seconds[1] and lips.seconds[-2] < 0.62 <= lips.seconds[-1]
    assert source.around(seconds + 100) is None


def test_the_next_speaker_is_another_and_goes_round() -> None:
    paths = [Path(name) for name in ("a.mp4", "c.mp4", "e.mp4")]
    assert [next_speaker(Path(name), paths).name for name in ("a.mp4", "b.png", "e.mp4")] == ["c.mp4", "c.mp4", "a.mp4"]


def test_options_are_read_with_their_types() -> None:
    options = dub_options(["steps=4", "tau_inj=0.5", "source_lips=as_is"])
    assert (options.steps, options.tau_inj, options.source_lips) == (4, 0.5, "as_is")
    with pytest.raises(OptionError, match="no option"):
        dub_options(["stepps=4"])
