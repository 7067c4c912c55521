"""The examples: short, and each run as a user would, on a film of ten frames."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

import unisync
from tiny import tiny_weights
from unisync.backbones import mini
from unisync.demo import demo_speech, make_demo_film
from unisync.media import probe, read_frames
from unisync.registry import load, names

EXAMPLES = Path(__file__).parent.parent / "examples"
SPEECH = str(demo_speech())


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_demo_film(tmp_path_factory.mktemp("film") / "film.mp4", 0.4))


@pytest.fixture
def quickly(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paint with tiny weights, for examples that are not about painting."""
    path = tiny_weights(tmp_path_factory.mktemp("weights"))
    monkeypatch.setattr(mini, "embedded_weights", lambda: path)


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ModuleType:
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module(request.param)


def frames(path: str | Path) -> unisync.Pixels:
    return np.stack([frame.pixels for frame in read_frames(probe(path))])


def test_each_is_short_and_named() -> None:
    text = (EXAMPLES / "README.md").read_text("utf-8")
    for path in EXAMPLES.rglob("*.py"):
        lines = [line for line in path.read_text("utf-8").splitlines() if line.strip()]
        assert len(lines) < 30, path.name
        assert str(path.relative_to(EXAMPLES)) in text


@pytest.mark.parametrize("example", ["dub_a_film"], indirect=True)
def test_dub_a_film(example: ModuleType, film: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example.main(film, SPEECH, str(tmp_path / "out.mp4"))
    assert "10 frames (0.40 s), 1 face" in capsys.readouterr().out
    assert len(probe(tmp_path / "out.mp4")) == 10
    with pytest.raises(SystemExit, match=r"not dubbed: .*nowhere.mp4 does not exist"):
        example.main(str(tmp_path / "nowhere.mp4"), SPEECH, str(tmp_path / "other.mp4"))


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("example", ["choose_a_face"], indirect=True)
def test_choose_a_face(example: ModuleType, film: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example.main(film, SPEECH, str(tmp_path / "out.mp4"))
    assert "1 faces" in capsys.readouterr().out
    assert cv2.imread(str(tmp_path / "out.faces.png")) is not None
    assert len(unisync.load_plan(tmp_path / "out.plan").tracks) == 1
    assert (tmp_path / "out.mp4").is_file()


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("example", ["dub_arrays"], indirect=True)
def test_dub_arrays(example: ModuleType, film: str, tmp_path: Path) -> None:
    given, out = tmp_path / "in.npy", tmp_path / "out.npy"
    np.save(given, frames(film))
    example.main(str(given), SPEECH, str(out))
    was, now = np.load(given), np.load(out)
    assert was.shape == now.shape and 0.001 < (was != now).any(-1).mean() < 0.2


@pytest.mark.parametrize("example", ["progress_and_cancel"], indirect=True)
def test_progress_and_cancel(
    example: ModuleType, film: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example.main(film, SPEECH, str(tmp_path / "out.mp4"), "0")
    said = capsys.readouterr().out
    assert said.startswith("scan: 10 of 10 frames\nstopped after 0 s;")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("example", ["batch_a_folder"], indirect=True)
def test_batch_a_folder(example: ModuleType, film: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "films", tmp_path / "out"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.mp4").write_bytes(Path(film).read_bytes())
    (folder / "b.wav").write_bytes(Path(SPEECH).read_bytes())
    example.main(str(folder), str(out))
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("a.mp4:") and "a.wav does not exist" in said[0] and said[1].startswith("b.mp4: 10 frames")
    assert [path.name for path in out.iterdir()] == ["b.mp4"]
    before = (out / "b.mp4").stat().st_mtime_ns
    example.main(str(folder), str(out))
    assert (out / "b.mp4").stat().st_mtime_ns == before


def install(folder: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do what pip does with a package of one module: its entry points beside it, on the path."""
    project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    about = place / f"{project['name']}-{project['version']}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [
        f"[{group}]\n{name} = {value}\n" for group, e in project["entry-points"].items() for name, value in e.items()
    ]
    (about / "entry_points.txt").write_text("".join(lines))
    monkeypatch.syspath_prepend(place)
    monkeypatch.syspath_prepend(folder)


def test_a_method_of_ones_own(film: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(EXAMPLES / "own_method", tmp_path / "site", monkeypatch)
    assert "blush" in names("method")
    out = tmp_path / "out.mkv"
    unisync.dub(film, SPEECH, out, options=unisync.DubOptions(method="blush", codec="ffv1"))
    change = frames(out).astype(int) - frames(film)
    assert change[..., 0].max() > 60 and np.abs(change[..., 2]).mean() < 1


def test_a_metric_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(EXAMPLES / "own_metric", tmp_path / "site", monkeypatch)
    metric = load("metric", "darkness")()
    black, white = (np.full((3, 8, 8, 3), value, np.uint8) for value in (0, 255))
    black[0] = 255

    def window(pixels: unisync.Pixels) -> unisync.Window:
        sound = unisync.Sound(np.zeros(1600, np.float32), 16000)
        return unisync.Window(0, pixels, np.arange(3) / 25, np.zeros((3, 468, 2), np.float32), sound)

    assert metric.compute() == {"darkness": "a source without a dark pixel"}
    metric.update(window(white), window(black))
    metric.update(window(black), window(black))
    assert metric.compute() == {"darkness": 0.5}
