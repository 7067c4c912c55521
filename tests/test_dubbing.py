"""Whole films through the second pass, with a tiny untrained model: what leaves, and what must not change."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import soundfile

from faces import frames, lay
from films import make_film, steady, uneven
from tiny import tiny_weights
from unisync.dubbing import dub_film, dub_frames, lend_mouths
from unisync.errors import Cancelled, FaceError, WeightsError
from unisync.face.align import canvas_matrices, transform
from unisync.media import EncodeOptions, Speech, drawn, probe, read_frames, read_sound, write_film
from unisync.methods.omnisync import Omnisync
from unisync.methods.unisync import Unisync
from unisync.metrics.base import NOTHING_SEEN
from unisync.metrics.pixels import OutsideMask
from unisync.options import DubOptions
from unisync.production import fit, presence, skipped
from unisync.scanning import save_plan, scan_film
from unisync.types import Frame, Mouths, Plan, Progress, Shot, Sound, Track

NUM = 14


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_weights(tmp_path_factory.mktemp("weights")))


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two faces drifting through a film of 14 frames."""
    path = tmp_path_factory.mktemp("film") / "two faces.mkv"
    pictures = [lay([(130 + i, 170, 1.2), (350, 180 - i, 1.0)]) for i in range(NUM)]
    write_film(frames(pictures), path, drawn("x", 480, 360, 25, NUM), None, EncodeOptions("h264", 16, "ultrafast"))
    return path


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Something that sounds, as long as the film."""
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    noise = np.random.default_rng(0).normal(0, 0.1, int(NUM / 25 * 44100))
    soundfile.write(path, np.stack([noise, -noise], 1), 44100)
    return path


def options(weights: str, **changes: object) -> DubOptions:
    return DubOptions.from_dict({"weights": weights, "steps": 2, "threads": 1, **changes})


def everyone(plan: Plan, speech: Path) -> dict[str, Sound]:
    return {track.name: read_sound(speech) for track in plan.tracks}


def test_outside_the_masks_everything_is_as_decoded(film: Path, speech: Path, weights: str, tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    source, given = probe(film), options(weights, face="all", codec="ffv1")
    plan = scan_film(source)
    masks: list[np.ndarray] = []

    def noted(stream: Iterator[Frame]) -> Iterator[Frame]:
        for frame in stream:
            mask = np.zeros((360, 480), bool)
            for edit in frame.edits:
                rows, columns = edit.mask.shape
                mask[edit.y : edit.y + rows, edit.x : edit.x + columns] |= edit.mask > 0
            masks.append(mask)
            yield frame

    stream = noted(dub_frames(source, plan, everyone(plan, speech), Unisync(given)))
    write_film(stream, out, source, Speech(speech), EncodeOptions("ffv1"))
    assert len(masks) == NUM and all(0.01 < mask.mean() < 0.3 for mask in masks)
    for mask, was, now in zip(masks, read_frames(source), read_frames(probe(out)), strict=True):
        assert np.array_equal(was.pixels[~mask], now.pixels[~mask])
        assert np.abs(was.pixels[mask].astype(int) - now.pixels[mask]).mean() > 1


@pytest.mark.parametrize("composite", ["gaussian", "hard", "none"])
def test_where_a_film_changes_is_as_asked(
    film: Path, speech: Path, weights: str, tmp_path: Path, composite: str
) -> None:
    source, given = probe(film), options(weights, composite=composite, method="omnisync")
    plan, changed = scan_film(source), OutsideMask()
    painted = dub_frames(source, plan, everyone(plan, speech), Omnisync(given), changed)
    masks = [edit.mask for frame in painted for edit in frame.edits]
    assert len(masks) == 2 * NUM
    partly = np.mean([((mask > 0.05) & (mask < 0.95)).sum() / (mask > 0).sum() for mask in masks])
    covered = np.mean([(mask > 0).sum() for mask in masks])
    assert bool(partly < 0.16) is (composite == "hard")
    assert bool(covered > 12_000) is (composite == "none")
    if composite == "none":
        assert 5 < float(changed.psnr()) < 45 and changed.worst > 10
    else:
        assert changed.psnr() == NOTHING_SEEN
    report = dub_film(film, speech, tmp_path / "out.mkv", options(weights, composite=composite, method="omnisync"))
    assert ("dB beyond the mouth" in report.line) is (composite == "none")


def test_only_the_chosen_face_changes(film: Path, speech: Path, weights: str, tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    report = dub_film(film, speech, out, options(weights, face="130,170@0.2", codec="ffv1"))
    assert report.faces == 1 and report.frames == NUM and report.skipped == []
    for was, now in zip(read_frames(probe(film)), read_frames(probe(out)), strict=True):
        assert np.array_equal(was.pixels[:, 260:], now.pixels[:, 260:])
        assert not np.array_equal(was.pixels[:, :260], now.pixels[:, :260])


def test_same_seed_same_bytes(film: Path, speech: Path, weights: str, tmp_path: Path) -> None:
    outs = [tmp_path / f"{name}.mkv" for name in "abc"]
    for out, seed in zip(outs, (3, 3, 4), strict=True):
        dub_film(film, speech, out, options(weights, seed=seed, codec="ffv1"))
    assert outs[0].read_bytes() == outs[1].read_bytes()
    pictures = [np.stack([f.pixels for f in read_frames(probe(out))]) for out in outs[1:]]
    assert not np.array_equal(*pictures)


def test_a_saved_plan_gives_the_same_film(film: Path, speech: Path, weights: str, tmp_path: Path) -> None:
    plan, outs = tmp_path / "plan.zip", [tmp_path / "a.mkv", tmp_path / "b.mkv"]
    save_plan(scan_film(film), plan)
    dub_film(film, speech, outs[0], options(weights, codec="ffv1"))
    dub_film(film, speech, outs[1], options(weights, codec="ffv1", plan=str(plan)))
    one, two = (np.stack([f.pixels for f in read_frames(probe(out))]) for out in outs)
    assert np.array_equal(one, two)


@pytest.mark.parametrize("name", ["23.976", "29.97", "60", "variable"])
def test_the_films_clock_is_kept(name: str, speech: Path, weights: str, tmp_path: Path) -> None:
    rate = {"23.976": Fraction(24000, 1001), "29.97": Fraction(30000, 1001), "60": Fraction(60)}.get(name)
    times = steady(rate, 1) if rate else uneven(1)
    film = make_film(tmp_path / "in.mp4", times, (160, 120), **({"rate": rate} if rate else {}))
    out = tmp_path / "out.mp4"
    dub_film(film, speech, out, options(weights, method="echo", box="30,20,100,90@0"))
    assert probe(out).seconds == probe(film).seconds


@pytest.mark.parametrize(
    ("changes", "frames_out", "spoken"),
    [
        ({"when_longer": "cut"}, 14, 0.56),
        ({"when_longer": "loop"}, 38, 1.5),
        ({"when_longer": "bounce"}, 38, 1.5),
        ({"when_longer": "hold"}, 38, 1.5),
    ],
)
def test_a_longer_speech(film: Path, changes: dict[str, str], frames_out: int, spoken: float) -> None:
    sound = Sound(np.ones(24000, np.float32), 16000)
    source, fitted, _, warnings = fit(probe(film), sound, Path("x.wav"), DubOptions.from_dict(changes))
    assert len(source) == frames_out
    assert abs(np.count_nonzero(fitted.samples) / 16000 - spoken) < 0.03
    assert bool(warnings) == (changes["when_longer"] == "cut")


@pytest.mark.parametrize(
    ("policy", "frames_out", "spoken"), [("silence", 14, 0.2), ("cut", 5, 0.2), ("loop", 14, 0.56)]
)
def test_a_shorter_speech(film: Path, policy: str, frames_out: int, spoken: float) -> None:
    sound = Sound(np.ones(3200, np.float32), 16000)
    source, fitted, track, warnings = fit(
        probe(film), sound, Path("x.wav"), DubOptions.from_dict({"when_shorter": policy})
    )
    assert len(source) == frames_out and not warnings
    assert abs(np.count_nonzero(fitted.samples) / 16000 - spoken) < 0.03
    assert track.repeats == (policy == "loop")


def test_a_still_lasts_as_long_as_the_speech_or_as_asked(tmp_path: Path, weights: str, speech: Path) -> None:
    import cv2

    still = tmp_path / "still.png"
    cv2.imwrite(str(still), lay([(240, 170, 1.5)])[..., ::-1])
    report = dub_film(still, speech, tmp_path / "a.mp4", options(weights))
    assert report.frames == NUM and report.faces == 1
    report = dub_film(still, speech, tmp_path / "b.mp4", options(weights, seconds=0.2))
    assert report.frames == 5


def test_progress_cancels_cleanly(film: Path, speech: Path, weights: str, tmp_path: Path) -> None:
    told: list[Progress] = []

    def stop(progress: Progress) -> None:
        told.append(progress)
        if progress.stage == "dub":
            raise Cancelled

    with pytest.raises(Cancelled):
        dub_film(film, speech, tmp_path / "out.mp4", options(weights), stop)
    assert {p.stage for p in told} == {"scan", "dub"}
    assert list(tmp_path.iterdir()) == []


def test_a_film_without_faces_and_missing_weights_are_told(speech: Path, weights: str, tmp_path: Path) -> None:
    film = tmp_path / "in.mp4"
    write_film(frames([lay([])] * 5), film, drawn("x", 480, 360, 25, 5))
    with pytest.raises(FaceError, match="no face was found"):
        dub_film(film, speech, tmp_path / "out.mp4", options(weights))
    with pytest.raises(WeightsError, match="no such weights file"):
        dub_film(film, speech, tmp_path / "out.mp4", options(str(tmp_path / "none.safetensors")))
    assert not (tmp_path / "out.mp4").exists()


def test_hidden_faces_are_left_alone_and_come_back_softly() -> None:
    score = np.ones(12, np.float32)
    score[4:6] = 0.1
    assert np.allclose(presence(score), [1, 1, 2 / 3, 1 / 3, 0, 0, 1 / 3, 2 / 3, 1, 1, 1, 1])
    assert presence(np.ones(5, np.float32)).min() == 1
    assert presence(np.zeros(5, np.float32)).max() == 0


def lent_of(film: Path) -> Mouths:
    plan = scan_film(film)
    track = plan.tracks[0]
    matrices = canvas_matrices(track.landmarks, 128, [float(moment) for moment in plan.seconds])
    points = np.stack([transform(p, m) for p, m in zip(track.landmarks, matrices, strict=True)])
    return lend_mouths(probe(film), track, points, (matrices, 128))


def test_what_lends_texture_is_cut_sharper_than_what_is_painted_over(film: Path) -> None:
    lent = lent_of(film)
    assert lent.fine is not None and lent.fine.shape == lent.pixels.shape, "a face no larger than the canvas"
    lips = np.s_[64:112, 32:96]
    sharp, soft = (
        np.mean([cv2.Laplacian(c[lips].astype(np.float32), cv2.CV_32F).var() for c in canvases])
        for canvases in (lent.fine, lent.pixels)
    )
    assert sharp > 1.2 * soft


def test_lent_mouths_say_how_shut_they_seem_when_pressed(film: Path) -> None:
    """The portrait smiles with her teeth in sight: pressed together her lips seem more shut, and still not wholly."""
    lent = lent_of(film)
    assert lent.shut is not None and lent.shut.shape == (NUM,)
    assert (lent.shut > 0).all() and (lent.shut < 0.8 * lent.lips[:, 0]).all()


def test_skipped_ranges_are_what_no_chosen_face_covers() -> None:
    marks, boxes = np.zeros((6, 468, 2), np.float32), np.zeros((6, 4), np.float32)
    score = np.array([1, 1, 0, 0, 1, 1], np.float32)
    track = Track("face1", 2, 8, marks, boxes, score, score)
    plan = Plan("x", 10, 10, (Shot(0, 10, (track,)),), tuple(Fraction(i, 25) for i in range(10)))
    assert skipped(plan, [track]) == [(0, 2), (4, 6), (8, 10)]
    assert skipped(plan, []) == [(0, 10)]
