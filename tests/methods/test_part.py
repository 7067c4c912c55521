"""Only the part of the canvases that the mask can reach is encoded, painted and decoded."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from opening import SIZE, face
from tiny import tiny_weights
from unisync.backbones.base import Part
from unisync.backbones.mini import Mini
from unisync.mask import mouth_mask
from unisync.methods.editing import AROUND, EditPerformer
from unisync.methods.lending import Lender
from unisync.methods.unisync import Unisync
from unisync.mouth import lip_parameters
from unisync.nets.pose import PoseEncoder
from unisync.options import DubOptions
from unisync.types import Mouths, Sound, Track, Window

WHOLE = Part(0, SIZE, 0, SIZE)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Mini:
    return Mini(tiny_weights(tmp_path_factory.mktemp("weights")))


def performer(backbone: Mini, **options: object) -> EditPerformer:
    marks = np.stack([face()] * 6)
    track = Track("face1", 0, 6, marks, np.zeros((6, 4), np.float32), np.ones(6, np.float32), np.ones(6, np.float32))
    made = Unisync(DubOptions.from_dict({"steps": 2, "source_lips": "as_is", **options}), backbone).begin(track)
    assert isinstance(made, EditPerformer)
    marks = np.stack([face(0.02 * i) for i in range(3)])
    mouths = Mouths(np.full((3, SIZE, SIZE, 3), 90, np.uint8), marks, lip_parameters(marks, SIZE))
    made.lender = Lender(mouths, np.ones(6, np.float32))
    return made


def window() -> Window:
    rng = np.random.default_rng(0)
    pixels = rng.integers(60, 200, (6, SIZE, SIZE, 3)).astype(np.uint8)
    sound = Sound(rng.normal(0, 0.1, 16000).astype(np.float32), 16000)
    return Window(0, pixels, np.arange(6) / 25, np.stack([face(0.02 * i) for i in range(6)]), sound)


def masks() -> np.ndarray:
    return np.stack([mouth_mask(points, SIZE) for points in window().landmarks])


def test_the_part_holds_all_that_the_mask_reaches_and_ends_on_cells(backbone: Mini) -> None:
    cell, part = backbone.geometry.cell, performer(backbone).part(masks())
    assert cell == backbone.vae.config.stride * 2 and part != WHOLE
    assert all(edge % cell == 0 for edge in vars(part).values())
    reached = np.argwhere(masks().max(0) > 0)
    first, last = reached.min(0), reached.max(0) + 1
    around = round(AROUND * SIZE)
    wide = [
        max(0, first[0] - around),
        min(SIZE, last[0] + around),
        max(0, first[1] - around),
        min(SIZE, last[1] + around),
    ]
    assert part.top <= wide[0] < part.top + cell and part.bottom - cell < wide[1] <= part.bottom
    assert part.left <= wide[2] < part.left + cell and part.right - cell < wide[3] <= part.right


def test_without_composite_or_lent_mouths_or_on_a_backbone_that_cannot_it_is_the_whole(backbone: Mini) -> None:
    assert performer(backbone, composite="none").part(masks()) == WHOLE
    alone = performer(backbone)
    alone.lender = None
    assert alone.part(masks()) == WHOLE
    other = performer(backbone)
    other.method.backbone = replaced = object.__new__(Mini)
    replaced.__dict__.update(backbone.__dict__, geometry=replace(backbone.geometry, cell=None))
    assert other.part(masks()) == WHOLE


def test_the_rest_of_the_canvas_is_the_films_own(backbone: Mini) -> None:
    mine = performer(backbone)
    part, made = mine.part(masks()), mine.paint(window())
    inside = np.zeros((SIZE, SIZE), bool)
    inside[part.top : part.bottom, part.left : part.right] = True
    changed = (made != window().pixels).any((0, 3))
    assert not changed[~inside].any() and changed[inside].any()


def test_a_place_gets_the_same_noise_whatever_part_is_painted(backbone: Mini) -> None:
    mine, part, stride = performer(backbone), Part(16, 64, 0, 48), backbone.geometry.spatial_stride
    like = torch.zeros(1, backbone.geometry.channels, 6, 1, 1)
    whole = mine.noise(3, like, WHOLE)
    assert torch.equal(mine.noise(3, like, part), part.latents(whole, stride))


def test_guidance_lies_where_it_lay(backbone: Mini) -> None:
    mine, part = performer(backbone, guidance_mode="dynamic"), Part(16, 64, 0, 48)
    whole = mine.bell(window(), WHOLE)
    assert torch.equal(mine.bell(window(), part), part.latents(whole, backbone.geometry.spatial_stride))


def test_a_part_of_the_pose_gives_the_same_tokens() -> None:
    torch.manual_seed(0)
    encoder = PoseEncoder(4, 16, (1, 2, 2), (2, 3, 3))
    torch.nn.init.ones_(encoder.gate)
    pose = torch.randn(1, 4, 3, 12, 16)
    whole = encoder(pose)
    part = encoder(pose[..., 4:, 2:12], (2, 1), (6, 8))
    assert torch.allclose(part, whole[:, :, 2:, 1:6], atol=1e-6)
    assert not torch.allclose(encoder(pose[..., 4:, 2:12]), part, atol=1e-3)


def test_the_embedded_model_paints_a_part_as_it_paints_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, backbone = np.random.default_rng(1), Mini()
    size, marks = 128, np.stack([face(0.02 * i) for i in range(4)]) * 2
    small = rng.integers(60, 200, (4, 12, 12, 3)).astype(np.uint8)
    pixels = np.stack([cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC) for image in small])
    sound = Sound(rng.normal(0, 0.1, 16000).astype(np.float32), 16000)
    given = Window(0, pixels, np.arange(4) / 25, marks, sound)
    part = performer(backbone).paint(given)
    monkeypatch.setattr(EditPerformer, "part", lambda self, masks: Part(0, size, 0, size))
    whole = performer(backbone).paint(given)
    mask = np.stack([mouth_mask(points, size) for points in marks])[..., None]

    def apart(a: np.ndarray, b: np.ndarray) -> float:
        return float((np.square(a.astype(np.float32) - b) * mask).sum() / mask.sum()) ** 0.5

    assert apart(part, whole) < 0.3 * apart(whole, pixels)
