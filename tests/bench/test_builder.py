"""Films are measured and sorted: drawn ones, whose light, camera and heads are known."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from faces import frames, lay
from films import make_sound, make_text
from marks import face
from unisync.bench.builder import balanced, build, cell_of, kinds_of, tags_of, traits_table
from unisync.bench.suite import Clip
from unisync.bench.traits import SKIN, Traits, camera_pace, face_light, measure
from unisync.errors import Cancelled, OptionError
from unisync.face.align import yaw_degrees
from unisync.face.detect import FaceModels
from unisync.media import drawn, write_film
from unisync.types import Floats, Pixels, Progress

SIZE = (320, 240)
NUM = 16
Places = tuple[tuple[float, float, float], ...]
KNOWN = Traits(
    film=Path("film.mp4"),
    width=1920,
    height=1080,
    rate=25.0,
    seconds=4.0,
    has_sound=True,
    seen=1.0,
    faces=1,
    face_px=300.0,
    luminance=0.5,
    contrast=0.15,
    yaw=5.0,
    widest_yaw=9.0,
    camera=0.0,
    cuts=0.0,
)


def wall(seed: int = 0) -> Pixels:
    """A papered wall, wider than the picture."""
    rough = np.random.default_rng(seed).normal(0, 1, (SIZE[1], 3 * SIZE[0], 1))
    soft = cv2.GaussianBlur(rough, (0, 0), 3)
    return np.repeat(np.clip(130 + 300 * soft[..., None], 40, 220), 3, axis=2).astype(np.uint8)


def shot(
    pan: float = 0.0, head: float = 0.0, light: float = 1.0, num: int = NUM, places: Places = ((130, 110, 0.8),)
) -> list[Pixels]:
    """Pictures of faces before a wall. pan, head: px a frame by which the wall and the faces move."""
    paper, empty, pictures = wall(), lay([], SIZE), []
    for i in range(num):
        matrix = np.array([[1, 0, -pan * i], [0, 1, 0]], np.float64)
        picture = cv2.warpAffine(paper, matrix, SIZE)
        front = lay([(x + head * i, y, zoom) for x, y, zoom in places], SIZE)
        people = (front != empty).any(2)
        picture[people] = front[people]
        pictures.append((picture * light).round().astype(np.uint8))
    return pictures


def film(path: Path, pictures: list[Pixels]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = pictures[0].shape[:2]
    write_film(frames(pictures), path, drawn(path.name, width, height, 25, len(pictures)))
    return path


@pytest.fixture(scope="module")
def models() -> FaceModels:
    return FaceModels()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Films of a face that are bright, dark, panned and of a moving head; a still, an empty wall, and a text."""
    path = tmp_path_factory.mktemp("films")
    film(path / "bright.mkv", shot())
    film(path / "dark.mkv", shot(light=0.3))
    film(path / "panned.mkv", shot(pan=4))
    film(path / "head.mkv", shot(head=4))
    make_sound(path / "dark.wav", [0.1], 0.5)
    (path / "old cartoons").mkdir()
    cv2.imwrite(str(path / "old cartoons" / "still.png"), shot(num=1)[0][..., ::-1])
    cv2.imwrite(str(path / "wall.png"), wall()[:, : SIZE[0]])
    make_text(path / "text.mp4")
    return path


def head(yaw: float) -> Floats:
    """Landmarks (1, 468, 2) of which three lie where a head turned by `yaw` degrees would have them."""
    angle, x, z = np.radians(yaw), np.zeros(468), np.zeros(468)
    x[[234, 454, 1]], z[[234, 454, 1]] = (-7.66, 7.66, 0), (-2.44, -2.44, 7.48)
    return np.stack([200 + 6.5 * (x * np.cos(angle) + z * np.sin(angle)), np.full(468, 100)], 1).astype(np.float32)[
        None
    ]


@pytest.mark.parametrize("yaw", [-60.0, -20.0, 0.0, 35.0])
def test_yaw_is_the_angle_of_the_head(yaw: float) -> None:
    assert yaw_degrees(head(yaw))[0] == pytest.approx(yaw, abs=0.5)


def test_light_and_shadow_of_a_face() -> None:
    points = face(size=200)
    middle = round(float(np.median(points[list(SKIN), 0])))
    even, half = np.full((200, 200, 3), 153, np.uint8), np.full((200, 200, 3), 153, np.uint8)
    half[:, :middle] = 51
    assert face_light(even, points) == pytest.approx((0.6, 0.0), abs=1e-3)
    found = face_light(half, points)
    assert found is not None
    assert found[1] == pytest.approx((153 - 51) / (153 + 51), abs=0.05)
    assert face_light(even, points + 1000) is None


def test_pace_of_the_camera() -> None:
    paper = cv2.cvtColor(wall(), cv2.COLOR_RGB2GRAY)
    free = np.full(SIZE[::-1], 255, np.uint8)
    old = paper[:, :320]
    assert camera_pace(old, paper[:, 12:332], free) == pytest.approx(12 / 240, abs=1e-3)
    assert camera_pace(old, old, free) == 0
    beside = old.copy()
    beside[:, 140:] = paper[:, 152:332]  # most of the picture moves: what stands still is the room
    assert camera_pace(old, beside, free) == 0
    assert camera_pace(old, wall(1)[:, :320, 0], free) is None
    noise = np.random.default_rng(0).integers(90, 93, (2, *old.shape), np.uint8)
    assert camera_pace(noise[0], noise[0], free) is None
    assert camera_pace(np.full_like(old, 90), np.full_like(old, 90), free) is None
    corner = np.zeros_like(free)
    corner[-100:, -100:] = 255
    assert camera_pace(old, paper[:, 12:332], corner) is None


def test_a_dark_film_and_a_bright_one_lie_in_different_cells(folder: Path, models: FaceModels) -> None:
    bright, dark = (measure(folder / f"{name}.mkv", models=models) for name in ("bright", "dark"))
    assert dark.luminance == pytest.approx(0.3 * bright.luminance, rel=0.1)
    assert dark.contrast == pytest.approx(bright.contrast, abs=0.05)
    assert "light:low" in tags_of(dark)
    assert "light:low" not in tags_of(bright)
    assert cell_of(tags_of(dark)) != cell_of(tags_of(bright))
    assert (bright.width, bright.height, bright.rate, bright.seconds) == (*SIZE, 25.0, NUM / 25)
    assert (bright.seen, bright.faces, bright.cuts, bright.camera, bright.has_sound) == (1.0, 1, 0.0, 0.0, False)


def test_the_camera_moves_or_the_head(folder: Path, models: FaceModels) -> None:
    panned, moving = (measure(folder / f"{name}.mkv", models=models) for name in ("panned", "head"))
    assert panned.camera == pytest.approx(100 * 4 * 25 / 240, rel=0.05)
    assert moving.camera < 0.1
    assert tags_of(panned)[0] == "scene:moving-camera"
    assert tags_of(moving)[0] == "scene:static-camera"


def test_cuts_and_several_faces(tmp_path: Path, models: FaceModels, monkeypatch: pytest.MonkeyPatch) -> None:
    paces: list[float | None] = []

    def pace(*pictures: Pixels) -> float | None:
        paces.append(camera_pace(*pictures))
        return paces[-1]

    monkeypatch.setattr("unisync.bench.traits.camera_pace", pace)
    first = shot(num=12, head=1, places=((80, 120, 0.6), (230, 120, 0.6)))
    second = [picture[:, ::-1].copy() for picture in shot(num=12, light=0.5, places=((200, 120, 0.9),))]
    traits = measure(film(tmp_path / "two shots.mkv", first + second), models=models)
    assert (traits.faces, traits.cuts) == (2, pytest.approx(60 / 0.96))
    assert tags_of(traits)[:2] == ("scene:cuts", "scene:several-faces")
    assert traits.camera < 0.1
    assert len(paces) == 2  # of four looks, two on each side: nothing is compared across the cut


def test_a_suite_is_built(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    told: list[Progress] = []
    suite, traits = build(folder, on_progress=told.append)
    tags = {clip.name: clip.tags for clip in suite.clips}
    assert list(tags) == ["bright", "dark", "head", "old cartoons-still", "panned"]
    assert tags["old cartoons-still"][2] == "character:stylised"
    assert tags["dark"][1] == "light:low"
    assert all(each[-1] == "resolution:below-360p" for each in tags.values())
    assert suite.clips[1].speech == folder / "dark.wav"
    assert [each.film.name for each in traits if not each.seen] == ["wall.png"]
    assert "text.mp4" in caplog.text
    assert [p.stage for p in told] == ["build"] * len(told)
    assert [p.done for p in told] == sorted(p.done for p in told)
    assert (told[-1].done, told[-1].total) == (7, 7)
    rows = traits_table(traits)
    assert len(rows) == len(traits) == 6
    assert rows[-1]["film"] == "wall.png"
    assert rows[-1]["tags"] == "no face"
    assert rows[0]["tags"] == ", ".join(tags["bright"])


def test_a_build_can_be_stopped_and_needs_faces(folder: Path, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        build(folder, on_progress=stop)
    shutil.copy(folder / "wall.png", tmp_path)
    with pytest.raises(OptionError, match="no film in it shows a face"):
        build(tmp_path)
    pets = tmp_path / "our pets"
    shutil.copytree(folder / "old cartoons", pets)
    assert build(pets)[0].clips[0].tags[2:4] == ("character:animal", "character:small-face")
    with pytest.raises(OptionError, match="per_cell"):
        build(folder, -1)


@pytest.mark.parametrize(
    ("changes", "tags"),
    [
        ({}, ("scene:static-camera", "light:normal", "character:frontal", "resolution:1080p")),
        ({"camera": 9.0, "cuts": 3.0}, ("scene:cuts", "scene:moving-camera")),
        ({"luminance": 0.9, "contrast": 0.6}, ("light:high-contrast", "light:bright")),
        ({"luminance": 0.1}, ("light:low",)),
        ({"yaw": 30.0, "face_px": 50.0}, ("character:small-face", "character:three-quarter")),
        ({"yaw": 60.0, "face_px": 50.0}, ("character:profile", "character:small-face")),
        ({"width": 720, "height": 1280}, ("resolution:720p",)),
    ],
)
def test_tags_are_hardest_first(changes: dict[str, float], tags: tuple[str, ...]) -> None:
    found = tags_of(replace(KNOWN, **changes))
    dimensions = {tag.partition(":")[0] for tag in tags}
    assert tuple(tag for tag in found if tag.partition(":")[0] in dimensions) == tags


def test_folders_name_kinds() -> None:
    assert kinds_of(("films", "My_Cartoons-2")) == ("stylised",)
    assert kinds_of(("animals in cgi",)) == ("animal", "stylised")
    assert kinds_of(("animalistic",)) == ()


def test_the_most_typical_of_each_cell_are_kept() -> None:
    yaws = {"a": 1.0, "b": 9.0, "c": 10.0, "d": 12.0, "e": 50.0, "f": 19.0}
    clips = []
    for name, yaw in yaws.items():
        traits = replace(KNOWN, yaw=yaw)
        clips.append((Clip(name=name, film=Path(f"{name}.mp4"), tags=tags_of(traits)), traits))

    def kept(per_cell: int) -> str:
        return "".join(clip.name for clip, _ in balanced(clips, per_cell))

    assert [kept(num) for num in (0, 1, 2, 3, 9)] == ["abcdef", "ce", "bce", "bcde", "abcdef"]
    assert kept(2) == "".join(sorted(clip.name for clip, _ in balanced(clips[::-1], 2)))


def test_measures_count_by_how_much_they_differ() -> None:
    """Degrees are large numbers and luma is a small one: neither outweighs the other."""
    clips = []
    for at, (yaw, luma) in enumerate([(10.0, 0.74), (12.0, 0.5), (0.0, 0.5), (19.0, 0.45), (8.0, 0.3)]):
        traits = replace(KNOWN, yaw=yaw, luminance=luma)
        clips.append((Clip(name=f"{at}", film=Path(f"{at}.mp4"), tags=tags_of(traits)), traits))
    assert [clip.name for clip, _ in balanced(clips, 1)] == ["1"]
