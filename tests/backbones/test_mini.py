"""The shipped weights: what they are, and that they open and close a real mouth."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from faces import portrait
from unisync.backbones.mini import LORAS, Mini, embedded_weights, files_of
from unisync.demo import demo_speech
from unisync.face.align import canvas_matrices, crop, transform
from unisync.face.detect import FaceModels, roi_from_detection, roi_from_landmarks
from unisync.media import read_sound
from unisync.methods.editing import EditPerformer
from unisync.methods.unisync import Unisync
from unisync.mouth import lip_parameters
from unisync.options import DubOptions
from unisync.types import Mouths, Pixels, Reference, Track, Window


@pytest.fixture(scope="module")
def shipped() -> Mini:
    return Mini()


def test_the_file_is_the_one_that_is_listed_and_small() -> None:
    path = embedded_weights()
    listed = [line.split() for line in (path.parent / "SHA256SUMS").read_text().splitlines()]
    files = sorted(path.parent.glob("*.safetensors"))
    assert sorted(name for _, name in listed) == [file.name for file in files] and path in files
    for number, name in listed:
        assert hashlib.sha256((path.parent / name).read_bytes()).hexdigest() == number
    extra = [path.with_name(name) for name in LORAS.values()]
    assert sum(file.stat().st_size for file in files if file not in extra) < 25_000_000
    assert sum(file.stat().st_size for file in extra) < 12_000_000


def test_omnisync_has_a_lora_of_its_own_unless_weights_are_named() -> None:
    unisync, omnisync = (files_of(DubOptions(method=method)) for method in ("unisync", "omnisync"))
    assert unisync == (embedded_weights(),) and omnisync[0] == embedded_weights() and len(omnisync) == 2
    named = DubOptions(method="omnisync", weights=str(embedded_weights()))
    assert files_of(named) == (embedded_weights(),)
    plain, changed = (Mini.from_options(options) for options in (named, DubOptions(method="omnisync")))

    def equal(part: str) -> bool:
        ours, theirs = (getattr(made, part).state_dict() for made in (plain, changed))
        return all(torch.equal(ours[name], theirs[name]) for name in ours)

    assert equal("vae") and equal("audio") and not equal("transformer")


def test_the_autoencoder_gives_a_face_back(shipped: Mini) -> None:
    window, _ = astronaut()
    back = shipped.decode(shipped.encode(window.pixels[:1])).astype(float)
    psnr = 10 * np.log10(255**2 / np.square(back - window.pixels[:1]).mean())
    assert psnr > 34


@pytest.mark.parametrize(("lent", "closed", "apart"), [(True, 0.035, 0.030), (False, 0.030, 0.020)])
def test_lips_open_and_close_as_told(
    shipped: Mini, monkeypatch: pytest.MonkeyPatch, lent: bool, closed: float, apart: float
) -> None:
    """On the smile's own mouth, as a still is dubbed, and on neutral lips."""
    window, models = astronaut()
    if lent:
        marks = window.landmarks[:1]
        window = replace(window, mouths=Mouths(window.pixels[:1], marks, lip_parameters(marks, 128)))
    method = Unisync(DubOptions(threads=1), shipped)
    openings = []
    for told in (0.0, 3.0):
        lips = shipped.lips.closed.clone()
        lips[:2] = told
        monkeypatch.setattr(
            EditPerformer, "lips", lambda self, speech, moments, lips=lips: lips.expand(len(moments), -1)
        )
        [(_, made)] = method.begin(track(window)).render([window])
        openings.append(np.median([opening(models, image) for image in made]))
    assert openings[1] - openings[0] > apart
    assert openings[0] < closed  # the smile itself opens by .063


def astronaut() -> tuple[Window, FaceModels]:
    """Return a window of a real face, smiling with its teeth shown, its own reference."""
    models, picture = FaceModels(), portrait()
    landmarks, _ = models.mesh(picture, roi_from_detection(models.find(picture)[0]))
    landmarks, _ = models.mesh(picture, roi_from_landmarks(landmarks))
    (matrix,) = canvas_matrices(landmarks[None], 128, [0.0])
    canvas, points = crop(picture, matrix, 128), transform(landmarks, matrix)
    num = 8
    sound = read_sound(demo_speech()).cut(0.5, 1.5)  # in silence lips stay shut, whatever they are told
    pixels, marks = np.repeat(canvas[None], num, axis=0), np.repeat(points[None], num, axis=0)
    return Window(0, pixels, np.arange(num) / 25, marks, sound, Reference(canvas, points)), models


def track(window: Window) -> Track:
    num, ones = len(window), np.ones(len(window), np.float32)
    return Track("face1", 0, num, window.landmarks, np.zeros((num, 4), np.float32), ones, ones)


def opening(models: FaceModels, canvas: Pixels) -> float:
    """Return the lip opening that the mesh sees on a canvas, in canvas sides."""
    wide = np.pad(canvas, ((64, 64), (64, 64), (0, 0)), mode="edge")
    from unisync.face.detect import Roi

    landmarks, _ = models.mesh(wide, Roi(128.0, 120.0, 190.0, 0.0))
    return float(lip_parameters(landmarks[None], 128)[0, 0])


def test_the_condition_is_what_the_checkpoint_says(shipped: Mini) -> None:
    assert shipped.geometry.canvas == 128 and shipped.geometry.spatial_stride == 8
    assert shipped.lips.gain > 1
    assert torch.equal(shipped.lips.closed[:2], torch.zeros(2))
