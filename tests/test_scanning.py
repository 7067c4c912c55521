from __future__ import annotations

import zipfile
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from clips import CLIPS, needs_clips
from faces import frames, lay
from films import make_film, steady, uneven
from unisync.errors import Cancelled, FaceError, MediaError, OptionError
from unisync.face.detect import FaceModels
from unisync.media import drawn, write_film
from unisync.scanning import choose, contact_sheet, load_plan, save_plan, scan_film
from unisync.types import Plan, Progress, Shot, Track


@pytest.fixture(scope="module")
def models() -> FaceModels:
    return FaceModels()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two faces for 12 frames, then another picture with one face for 12."""
    path = tmp_path_factory.mktemp("films") / "two shots.mkv"
    first = [lay([(120 + i, 180, 1.0), (350, 180, 0.8)]) for i in range(12)]
    second = [lay([(300, 150 + i, 1.4)])[:, ::-1].copy() // 2 for i in range(12)]
    write_film(frames(first + second), path, drawn(path.name, 480, 360, 25, 24))
    return path


@pytest.fixture(scope="module")
def plan(film: Path, models: FaceModels) -> Plan:
    return scan_film(film, models=models)


def hand_made(*speaks: float) -> Plan:
    """A plan of one shot with a face per number, ever larger, from left to right."""
    tracks = []
    for i, share in enumerate(speaks):
        boxes = np.tile(np.float32([100 * i, 50, 100 * i + 40 + 10 * i, 100 + 10 * i]), (10, 1))
        points = np.zeros((10, 468, 2), np.float32)
        ones = np.ones(10, np.float32)
        tracks.append(Track(f"face{i + 1}", 0, 10, points, boxes, ones, np.full(10, share, np.float32)))
    return Plan("film.mp4", 640, 360, (Shot(0, 10, tuple(tracks)),), tuple(Fraction(i, 25) for i in range(10)))


def test_shots_and_tracks_of_a_film(plan: Plan, film: Path) -> None:
    assert [(shot.start, shot.stop) for shot in plan.shots] == [(0, 12), (12, 24)]
    assert [(t.name, t.start, t.stop) for t in plan.tracks] == [("face1", 0, 12), ("face2", 0, 12), ("face3", 12, 24)]
    assert plan.seconds == tuple(Fraction(i, 25) for i in range(24))
    assert (plan.film, plan.width, plan.height) == (str(film), 480, 360)


def test_flashes_and_uneven_times_make_no_shots(tmp_path: Path, models: FaceModels) -> None:
    for name, times in (("steady.mp4", steady(25)), ("uneven.mp4", uneven())):
        found = scan_film(make_film(tmp_path / name, times, (256, 192)), models=models)
        assert len(found.shots) == 1
        assert found.seconds == tuple(times)
        (track,) = found.tracks
        assert len(track) >= len(times) - 3  # the first picture is a flash
        assert track.speaking.max() > 0.5


def test_progress_is_told_and_may_cancel(film: Path, models: FaceModels) -> None:
    told: list[Progress] = []
    scan_film(film, told.append, models=models)
    assert [p.done for p in told] == [10, 20, 24]
    assert told[-1].total == 24

    def stop(progress: Progress) -> None:
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        scan_film(film, stop, models=models)


def test_a_plan_survives_its_file_exactly(plan: Plan, tmp_path: Path) -> None:
    save_plan(plan, tmp_path / "a b.plan")
    again = load_plan(tmp_path / "a b.plan")
    assert (again.film, again.width, again.height, again.seconds) == (plan.film, plan.width, plan.height, plan.seconds)
    assert [(s.start, s.stop) for s in again.shots] == [(s.start, s.stop) for s in plan.shots]
    for a, b in zip(again.tracks, plan.tracks, strict=True):
        assert (a.name, a.start, a.stop) == (b.name, b.start, b.stop)
        for kind in ("landmarks", "boxes", "score", "speaking"):
            assert (getattr(a, kind) == getattr(b, kind)).all()
    assert [p.name for p in tmp_path.iterdir()] == ["a b.plan"]


def test_damaged_plans_are_refused(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "film.plan"
    with pytest.raises(MediaError, match="cannot be read"):
        load_plan(path)
    save_plan(plan, path)
    whole = path.read_bytes()
    for broken in (b"", b"no plan", whole[: len(whole) // 2], whole[:200] + bytes(200) + whole[400:]):
        path.write_bytes(broken)
        with pytest.raises(MediaError, match=r"film\.plan"):
            load_plan(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("plan.json", '{"version": 99}')
    with pytest.raises(MediaError, match="newer"):
        load_plan(path)
    with pytest.raises(MediaError, match="cannot be written"):
        save_plan(plan, tmp_path / "nowhere" / "film.plan")


def test_faces_are_chosen(plan: Plan) -> None:
    def names(spec: str) -> list[str]:
        return [track.name for track in choose(plan, spec)]

    assert names("all") == ["face1", "face2", "face3"]
    assert names("largest") == ["face1", "face3"]
    assert names("face3, face1") == ["face1", "face3"]
    assert names("350,180@0.2") == ["face2"]
    for spec, error in (("face9", FaceError), ("1,1@0", FaceError), ("x@1", OptionError), ("1,2@a", OptionError)):
        with pytest.raises(error):
            choose(plan, spec)
    with pytest.raises(FaceError, match=r"face1 .*face2 .*face3"):
        choose(plan, "nobody")


def test_who_speaks() -> None:
    assert [t.name for t in choose(hand_made(0.1, 0.8, 0.3), "speaking")] == ["face2"]
    assert [t.name for t in choose(hand_made(0.1, 0.8, 0.3), "largest")] == ["face3"]
    with pytest.raises(FaceError, match="speak"):
        choose(hand_made(0.0, 0.0), "speaking")
    with pytest.raises(FaceError, match="--box"):
        choose(hand_made(), "all")


def test_a_box_takes_the_place_of_the_face_it_holds(film: Path, models: FaceModels) -> None:
    plan = scan_film(film, box="65,110,120,150@0.2", models=models)
    assert [t.name for t in plan.tracks] == ["box1", "face1", "face2"]
    assert (plan.tracks[0].start, plan.tracks[0].stop) == (0, 12)
    assert (plan.tracks[0].score == 1).all()


@pytest.mark.parametrize(
    "box", ["1,2,3@0", "a,b,c,d@0", "0,0,4,4@0", "400,0,100,100@0", "10,10,50,50@9", "1,1,nan,9@0"]
)
def test_bad_boxes_are_refused(film: Path, models: FaceModels, box: str) -> None:
    with pytest.raises(OptionError, match="--box"):
        scan_film(film, box=box, models=models)


@pytest.mark.parametrize("name", ["sheet.png", "sheet.jpg"])
def test_contact_sheet(plan: Plan, tmp_path: Path, name: str) -> None:
    contact_sheet(plan, tmp_path / name)
    sheet = cv2.imread(str(tmp_path / name))
    assert sheet is not None
    assert sheet.shape[1] == 3 * 192
    assert sheet[:192].std() > 20
    contact_sheet(hand_made(), tmp_path / name, film=drawn("film.mp4", 640, 360, 25, 10))


@needs_clips
def test_a_debate_has_two_faces(models: FaceModels) -> None:
    assert CLIPS is not None
    plan = scan_film(CLIPS / "two-faces-debate-24fps.mp4", models=models)
    num = len(plan.seconds)
    there = [sum(t.start <= i < t.stop for t in plan.tracks) for i in range(num)]
    assert sum(n == 2 for n in there) > 0.8 * num
    assert max(there) == 2


@needs_clips
def test_stills(models: FaceModels) -> None:
    assert CLIPS is not None
    for name in ("painting.png", "animal.jpg"):
        assert len(scan_film(CLIPS / name, models=models).tracks) == 1
