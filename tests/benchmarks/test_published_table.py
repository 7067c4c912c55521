"""From films to the papers' figures: what each metric is shown, and the real networks with random weights."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from safetensors.torch import save_file
from torch import Tensor

from faces import frames, lay
from layouts import SYNCNET, arcface, random_state
from published import NAMES, judge_all, main, source_of
from unisync.bench.footage import Footage, look, show
from unisync.errors import MediaError
from unisync.face.views import ARCFACE
from unisync.media import EncodeOptions, Speech, drawn, read_sound, write_film
from unisync.metrics.csim import Csim
from unisync.metrics.frechet import Fid
from unisync.metrics.lse import LseFrame, LseTracked
from unisync.models import models_folder
from unisync.types import Sound, Window

NUM = 8
SOUND = Sound(np.random.default_rng(0).normal(0, 0.1, 32000).astype(np.float32), 16000)


class NotedCsim(Csim):
    """Keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__(network=lambda faces: faces.mean((2, 3)))
        self.shown: list[tuple[Window, Window | None]] = []

    def take(self, made: Window, truth: Window | None) -> None:
        self.shown.append((made, truth))
        super().take(made, truth)


class NotedLse(LseTracked):
    """Keeps what it is shown, and when it is told of another face."""

    def __init__(self) -> None:
        super().__init__(network=object())
        self.shown: list[Window | str] = []

    def begin(self) -> None:
        self.shown.append("begin")

    def take(self, made: Window, truth: Window | None) -> None:
        assert truth is None
        self.shown.append(made)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one film, `a.mkv`: a face that drifts, and noise to be heard."""
    folder = tmp_path_factory.mktemp("films")
    speech = folder / "speech.flac"
    soundfile.write(speech, SOUND.samples, SOUND.rate)
    pictures = [lay([(180 + 2 * i, 170, 1.4)]) for i in range(NUM)]
    film = drawn("a", 480, 360, 25, NUM)
    write_film(frames(pictures), folder / "a.mkv", film, Speech(speech), EncodeOptions("ffv1"))
    return folder


@pytest.fixture(scope="module")
def source(folder: Path) -> Footage:
    return look(folder / "a.mkv")


def test_arcface_is_shown_the_face_where_it_wants_it(source: Footage) -> None:
    metric = NotedCsim()
    show(metric, source, source, SOUND)
    (made, truth), *others = metric.shown
    assert not others and truth is not None and len(made) == NUM
    assert made.pixels.shape[1:] == (112, 112, 3) and (made.pixels == truth.pixels).all() and made.sound is SOUND
    eyes = np.stack([made.landmarks[:, pair].mean(1) for pair in ([33, 133], [362, 263])], 1)
    points = np.concatenate([eyes, made.landmarks[:, [1, 61, 291]]], 1)
    assert np.linalg.norm(points - ARCFACE, axis=2).max() < 9  # she smiles, and the template does not
    assert metric.compute() == {"csim": pytest.approx(1, abs=1e-5), "csim_no_face": 0.0}


def test_frames_in_which_nobody_is_found_are_shown_as_such(source: Footage) -> None:
    metric = NotedCsim()
    show(metric, replace(source, tracks=()), source, SOUND)
    assert metric.compute() == {"csim": "nothing was measured", "csim_no_face": float(NUM)}
    assert metric.shown[0][0].pixels.max() == 0


def test_syncnet_is_shown_each_face_by_itself(source: Footage) -> None:
    metric = NotedLse()
    show(metric, replace(source, tracks=source.tracks * 2), source, SOUND)
    begun, first, *rest = metric.shown
    assert begun == "begin" and rest[0] == "begin" and len(rest) == 2
    assert isinstance(first, Window) and first.pixels.shape == (NUM, 224, 224, 3)
    low, high = first.landmarks.min((0, 1)), first.landmarks.max((0, 1))
    assert 20 < low[0] < 60 and 160 < high[0] < 204, "the face fills the middle 1 / 1.4 across"
    assert -15 < low[1] < 15 and 140 < high[1] < 180, "and the upper 2 / 2.8"


def test_whole_frames_are_shown_once_whatever_the_faces(source: Footage) -> None:
    def corner(pictures: Tensor) -> Tensor:
        assert pictures.shape == (NUM, 3, 299, 299)
        return pictures[:, :, 5, 5]

    class Few(Fid):
        min_samples = NUM

    metric = Few(corner)
    show(metric, replace(source, tracks=source.tracks * 2), replace(source, tracks=()), SOUND)
    assert metric.compute() == {"fid": pytest.approx(0, abs=1e-6), "fid_frames": float(NUM)}


def test_a_table_without_weights_says_which_are_missing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UNISYNC_MODELS", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["published.py", str(folder), str(folder)])
    main()
    head, _, made, truth = capsys.readouterr().out.splitlines()
    assert head.startswith("| 1 films | fid | ") and made.startswith("| made | – (weights missing: pt_inception")
    assert truth.startswith("| the sources themselves | ") and truth.count("weights missing") == head.count("|") - 2


def test_the_files_give_figures(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNISYNC_MODELS", str(tmp_path))
    save_file(random_state(SYNCNET), tmp_path / "syncnet_v2.safetensors")
    save_file(random_state(arcface()), tmp_path / "w600k_r50.safetensors")
    told = judge_all([folder / "a.mkv"], [folder / "a.mkv"])
    assert set(NAMES) < set(told)
    assert told["csim"] == pytest.approx(1, abs=1e-4) and told["csim_no_face"] == 0
    assert all(isinstance(told[name], float) for name in ("lse_c_frame", "lse_d_frame", "lse_offset_frame"))
    assert told["lse_c_tracked"] == "nobody was followed, and heard, for 101 frames of 25 a second"
    assert told["fvd"] == "weights missing: i3d_torchscript.pt"


REFERENCE = [models_folder() / name for name in ("syncnet_v2.model", "example.avi")]
"""The published weights, and syncnet_python's film to try them on, a crop of a face, of whoever has both."""


@pytest.mark.skipif(
    not all(path.is_file() for path in REFERENCE), reason=f"not there: {REFERENCE[0]} or {REFERENCE[1]}"
)
def test_the_reference_film_gives_the_published_figures() -> None:
    metric = LseFrame()
    film = look(REFERENCE[1])
    show(metric, film, film, read_sound(REFERENCE[1]))
    told = metric.compute()
    assert told["lse_offset_frame"] == 3
    assert told["lse_d_frame"] == pytest.approx(5.353, abs=0.1)  # the published loop reads its frames back from JPEG
    assert told["lse_c_frame"] == pytest.approx(10.021, abs=0.1)


def test_a_film_without_a_source_is_named(folder: Path) -> None:
    assert source_of(Path("elsewhere/a.mp4"), folder) == folder / "a.mkv"
    with pytest.raises(MediaError, match=r"holds no film named b, the source of b\.mp4"):
        source_of(Path("b.mp4"), folder)
