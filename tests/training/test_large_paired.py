"""Timestep-dependent sampling for large models: windows know their pseudo-pairs, and the level chooses the source."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from small_wan import given, network
from unisync import flow
from unisync.errors import OptionError
from unisync.nets.transformer import Condition
from unisync.options import TrainOptions
from unisync.training.canvases import Canvases
from unisync.training.dataset import Sample
from unisync.training.large import LargeRecipe, draw_level, edit_loss
from unisync.training.pairs import partners
from unisync.training.recipe import read_recipe
from unisync.training.windows import ByLevel, Windows, fill_windows
from unisync.types import Pixels, Window

ROOT = Path(__file__).parents[2]
SIZE, LENGTH = 64, 5
NEUTRAL, OTHER, PAIR = 1.0, 2.0, 3.0
FILMS = {"a-b": {0: 10.0, 5: 15.0, 10: 20.0}, "alone": {0: 30.0}}
"""The windows' latents, by sample and first frame."""


def talking(num: int) -> Canvases:
    """A face that is moved aside after half the time; its lips are open in every other frame."""
    marks = np.random.default_rng(0).uniform(0, SIZE, (1, 468, 2)).repeat(num, 0).astype(np.float32)
    marks[:, 14] = marks[:, 13] + [[0, 0.1 * SIZE * (i % 2)] for i in range(num)]
    marks[num // 2 :] += 0.3 * SIZE
    return Canvases(np.zeros((num, SIZE, SIZE, 3), np.uint8), marks, np.arange(num) / 25, np.zeros(0, np.int16), "")


def test_partners_are_near_in_pose_far_in_lips_and_not_the_same_words() -> None:
    clip = talking(40)
    found = partners(clip, LENGTH, near=0.02, far=0.09)
    assert set(found) == set(range(0, 40, LENGTH))
    for start, begin in found.items():
        assert (start < 20) is (begin < 20)
        assert (begin - start) % 2 == 1 and abs(begin - start) > LENGTH / 2  # one frame on, lips are other ones too
        assert begin + LENGTH <= (20 if start < 20 else 40)
    assert not partners(clip, LENGTH, near=0.02, far=0.11)
    assert set(partners(replace(clip, landmarks=clip.landmarks + np.arange(40)[:, None, None]), 5, 0.02, 0.09)) == set()
    for num in (LENGTH - 1, LENGTH, LENGTH + 2):  # none, itself alone, only what overlaps by more than half
        assert not partners(talking(num), LENGTH, near=1.0, far=0.0)


def test_windows_are_encoded_with_their_partners(face: Canvases, tmp_path: Path) -> None:
    """Encoded as the mean of what was shown."""
    pixels = np.arange(12, dtype=np.uint8)[:, None, None, None].repeat(SIZE, 1).repeat(SIZE, 2).repeat(3, 3)
    clip = replace(face, pixels=pixels, landmarks=face.landmarks * SIZE / face.pixels.shape[1])

    def encode(pixels: Pixels) -> Tensor:
        return torch.full((1, 2, 2, 4, 4), float(pixels.mean()))

    def tell(window: Window, source: Tensor, pose: Tensor) -> Condition:
        return Condition(source, torch.zeros(1, 2))

    fill_windows([Sample("x", clip, {})], tmp_path / "with", encode, tell, LENGTH, lambda _: {5: 1})
    fill_windows([Sample("x", clip, {})], tmp_path / "without", encode, tell, LENGTH)
    first, second = (torch.load(tmp_path / "with" / f"x-00000{start}.pt") for start in (0, 5))
    assert first["pairs"].shape == (0, 2, 2, 4, 4) and second["pairs"].shape == (1, 2, 2, 4, 4)
    assert (second["pairs"] == 3).all() and (second["target"] == 7).all() and second["pairs"].dtype == torch.half
    plain = torch.load(tmp_path / "without" / "x-000005.pt")
    assert plain.keys() == second.keys() - {"pairs"}
    assert all(torch.equal(value, second[name]) for name, value in plain.items())
    by_level = ByLevel(1.0, 0.85, lambda _: 0.9)
    assert Windows(tmp_path / "with", by_level).num_paired == 1
    with pytest.raises(OptionError, match=r"x-000000\.pt: was encoded without pseudo-pairs; .* or give paired = 0"):
        Windows(tmp_path / "without", by_level)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Windows of two samples; of the first all have a pseudo-pair but one."""
    like = torch.ones(2, 2, 4, 4).half()
    for key, windows in FILMS.items():
        for start, value in windows.items():
            pairs = like[None] * PAIR if start else like[None][:0]
            data = {"target": like * value, "sources": torch.stack([like * NEUTRAL, like * OTHER]), "pairs": pairs}
            data |= {"reference": like, "mask": like[:1], "seconds": torch.zeros(2)}
            torch.save(data, tmp_path / f"{key}-{start:06d}.pt")
    return tmp_path


def drawn(folder: Path, by_level: ByLevel | None, num: int = 100) -> dict[float, set[float]]:
    """Return all sources that were drawn, by the target."""
    batch = Windows(folder, by_level).draw(num, random.Random(0), 0.0)
    assert torch.equal(batch["reference"], batch["source"]) and ("sigma" in batch) is (by_level is not None)
    assert "pairs" not in batch and "sources" not in batch
    found: dict[float, set[float]] = {}
    for target, source in zip(batch["target"], batch["source"], strict=True):
        (value,) = source.unique().tolist()
        found.setdefault(float(target.mean()), set()).add(value)
    return found


def test_the_level_chooses_the_source(folder: Path) -> None:
    """OmniSync's Eq 3: the pseudo-pair above the threshold, other windows of the same sample up to it."""
    above = drawn(folder, ByLevel(1.0, 0.85, lambda _: 0.86))
    assert above == {10.0: {OTHER}, 15.0: {PAIR}, 20.0: {PAIR}, 30.0: {OTHER}}
    for level in (0.85, 0.1):
        below = drawn(folder, ByLevel(1.0, 0.85, lambda _, level=level: level))  # type: ignore[misc]
        assert below == {10.0: {15.0, 20.0}, 15.0: {10.0, 20.0}, 20.0: {10.0, 15.0}, 30.0: {OTHER}}
    some = drawn(folder, ByLevel(0.5, 0.85, lambda _: 0.86))
    assert some == {
        10.0: {NEUTRAL, OTHER},
        15.0: {NEUTRAL, OTHER, PAIR},
        20.0: {NEUTRAL, OTHER, PAIR},
        30.0: {NEUTRAL, OTHER},
    }
    assert drawn(folder, None) == {value: {NEUTRAL, OTHER} for value in (10.0, 15.0, 20.0, 30.0)}


def test_levels_are_shifted_before_they_are_compared(folder: Path) -> None:
    recipe = LargeRecipe(paired=1.0)
    windows = Windows(folder, ByLevel(recipe.paired, recipe.paired_above, partial(draw_level, recipe)))
    batch = windows.draw(600, random.Random(0), 0.0)
    assert abs(float((batch["sigma"] > 0.85).float().mean()) - 0.469) < 0.06
    with_pair = batch["target"][:, 0, 0, 0, 0] == 15
    is_pair = batch["source"][:, 0, 0, 0, 0] == PAIR
    assert torch.equal(is_pair[with_pair], (batch["sigma"] > 0.85)[with_pair])


def test_nothing_else_is_drawn_where_nothing_is_paired(folder: Path) -> None:
    """The very draws, and the very loss, of a training that does not know of pairs."""
    rnd, other = random.Random(3), random.Random(3)
    windows = Windows(folder)
    for _ in range(5):
        batch = windows.draw(4, rnd, 0.5)
        files = [other.choice(windows.files) for _ in range(4)]
        sources = [(NEUTRAL, OTHER)[other.randrange(2)] for _ in files]
        assert batch["source"][:, 0, 0, 0, 0].tolist() == sources
        assert batch["target"][:, 0, 0, 0, 0].tolist() == [float(torch.load(f)["target"].mean()) for f in files]
        assert batch["keep_audio"].tolist() == [float(other.random() >= 0.5) for _ in files]
        assert rnd.getstate() == other.getstate()
    assert LargeRecipe().paired == 0
    net = network(editing=True)
    z, condition = given(net)
    batch = condition.tensors
    batch |= {"target": z, "mask": torch.ones_like(z[:, :1])}
    recipe = LargeRecipe(steps=1)
    torch.manual_seed(0)
    loss = edit_loss(net, batch, recipe)
    torch.manual_seed(0)
    sigma = flow.shifted(torch.rand(len(z)), recipe.shift)
    at_level = edit_loss(net, batch | {"sigma": sigma}, recipe)
    assert torch.equal(loss, at_level)
    torch.manual_seed(0)
    torch.rand(len(z))
    assert not torch.equal(loss, edit_loss(net, batch | {"sigma": sigma / 2}, recipe))


def test_the_recipe_is_omnisyncs() -> None:
    recipe = read_recipe(ROOT / "recipes" / "wan-omnisync.toml", TrainOptions())
    assert recipe.kind == "wan" and recipe.lora is not None and recipe.wan.backbone
    assert (recipe.wan.paired, recipe.wan.paired_above) == (1.0, 0.85)
    plain = read_recipe(ROOT / "recipes" / "wan-lora.toml", TrainOptions())
    assert replace(recipe.wan, paired=0.0) == plain.wan and recipe.lora == plain.lora
