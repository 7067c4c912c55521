"""Large models' training, with two layers: windows that are cached once, a LoRA beside parts in full, one file."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from small_wan import T2V, given, network
from unisync.errors import OptionError, WeightsError
from unisync.nets.transformer import Condition
from unisync.nets.vae import FaceVae, VaeConfig
from unisync.nets.wan.editing import apply_editing, taught_by
from unisync.nets.wan.families import FAMILIES, Size, family_shapes, whole_shapes
from unisync.nets.wan.files import WeightFiles
from unisync.nets.wan.models import load_transformer
from unisync.options import TrainOptions
from unisync.training.canvases import Canvases
from unisync.training.dataset import Sample
from unisync.training.large import NEW_CHANNELS, LargeRecipe, edit_loss, prepare_network, standing_in
from unisync.training.lora import LoraRecipe
from unisync.training.recipe import read_recipe
from unisync.training.run import train_by
from unisync.training.windows import Windows, fill_windows
from unisync.types import Pixels, Window

ROOT = Path(__file__).parents[2]
LENGTH, CHANNELS = 5, 4


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a text-to-video model of two layers."""
    monkeypatch.setitem(FAMILIES, T2V, replace(FAMILIES[T2V], size=Size(256, 2, 64, CHANNELS), channels_in=CHANNELS))
    family_shapes.cache_clear()
    draw = torch.Generator().manual_seed(0)
    save_file(
        {name: torch.randn(shape, generator=draw) * 0.05 for name, shape in whole_shapes(T2V).items()},
        tmp_path / "model.safetensors",
    )
    yield tmp_path / "model.safetensors"
    monkeypatch.undo()
    family_shapes.cache_clear()


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory, face: Canvases) -> Path:
    """Windows of a face under changing light; every fourth frame is encoded, as with a stride in time."""
    torch.manual_seed(0)
    vae = FaceVae(VaeConfig(latent_channels=CHANNELS, width=16, deep_width=16)).eval()

    def encode(pixels: Pixels) -> Tensor:
        x = torch.from_numpy(np.ascontiguousarray(pixels[::4])).permute(0, 3, 1, 2).float() / 127.5 - 1
        return vae.encode(x).transpose(0, 1)[None]

    def tell(window: Window, source: Tensor, pose: Tensor) -> Condition:
        seconds = torch.from_numpy(window.seconds[::4] - window.seconds[0])[None].float()
        return Condition(source, seconds, pose, text=torch.ones(1, 3, 4096), reference=source)

    light = np.linspace(0.5, 1, len(face.pixels))[:, None, None, None]
    face = replace(face, pixels=(face.pixels * light).astype(np.uint8))
    folder = tmp_path_factory.mktemp("windows")
    for part in ("train", "held"):
        fill_windows([Sample(part, face, {})], folder / part, encode, tell, LENGTH)
    return folder


def test_windows_are_whole_and_written_once(windows: Path, face: Canvases) -> None:
    found = Windows(windows / "train")
    assert [path.name for path in found.files] == ["train-000000.pt", "train-000005.pt"]  # 12 frames
    batch = found.draw(2, random.Random(0), drop_audio=0.5)
    side = face.pixels.shape[1] // 8
    assert batch["target"].shape == batch["source"].shape == batch["pose"].shape == (2, CHANNELS, 2, side, side)
    assert batch["mask"].shape == (2, 1, 2, side, side) and 0 < batch["mask"].mean() < 0.7
    torch.testing.assert_close(batch["seconds"], torch.tensor([[0.0, 0.16]] * 2))
    assert torch.equal(batch["reference"], batch["source"]) and batch["text"].shape == (2, 3, 4096)
    assert not torch.equal(batch["source"], batch["target"])
    keeps = [float(found.draw(1, random.Random(seed), 0.5)["keep_audio"]) for seed in range(20)]
    assert set(keeps) == {0.0, 1.0}
    drawn = {tuple(found.draw(1, random.Random(seed), 0)["source"].flatten()[:9].tolist()) for seed in range(20)}
    assert len(drawn) == 4  # two windows with two sources each

    def never(*_: object) -> Tensor:
        raise AssertionError("encoded again")

    fill_windows([Sample("train", face, {})], windows / "train", never, never, LENGTH)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="holds no windows"):
        Windows(windows / "none")


def test_by_the_recipe_a_file_is_written_that_makes_the_model_the_trained_one(
    model: Path, windows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = TrainOptions(work=str(tmp_path / "work"), out=str(tmp_path / "out.safetensors"), steps=3)
    recipe = read_recipe(ROOT / "recipes" / "wan-lora.toml", given)
    large = replace(
        recipe.wan, backbone=str(model), windows=str(windows), accumulate=1, learning_rate=0.01, warmup=1,
        ema=0.0, look_every=1, log_every=1, save_every=2,
    )  # fmt: skip
    out = train_by(replace(recipe, wan=large, lora=LoraRecipe(rank=4, alpha=8)))
    assert "held/velocity" in capsys.readouterr().out
    tensors = load_file(out)
    taught = taught_by(out)
    assert taught is not None and (taught.family, taught.canvas, taught.length) == (T2V, 128, LENGTH)
    assert all(value.any() for name, value in tensors.items() if "lora_B" in name)
    assert tensors["patch_embedding.added"].shape == (256, CHANNELS, 1, 2, 2) and tensors["patch_embedding.added"].any()
    size = sum(value.numel() for value in tensors.values())
    base = load_transformer(WeightFiles(model), dtype=torch.float32, editing=True)
    before = {name: value.clone() for name, value in base.state_dict().items()}
    apply_editing(base, T2V, out)
    after = base.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert size < sum(value.numel() for value in after.values()) / 2
    assert {name for name in changed if not name.startswith("blocks")} >= {
        "patch_embedding.weight",
        "pose_encoder.gate",
    }
    assert all(".attn" in n or "attn." in n or "ffn" in n for n in changed if n.startswith("blocks"))
    assert torch.equal(after["patch_embedding.weight"][:, :CHANNELS], before["patch_embedding.weight"][:, :CHANNELS])
    # The checkpoint's own changes in the trained network give what the file gives.
    net = load_transformer(WeightFiles(model), dtype=torch.float32, editing=True)
    changes = prepare_network(net, LoraRecipe(rank=4, alpha=8), checkpointing=False)
    (last,) = (tmp_path / "work" / "wan").glob("step-*/weights.safetensors")
    changes.load_state_dict(
        {name.removeprefix("average."): value for name, value in load_file(last).items() if name.startswith("average.")}
    )
    batch = Windows(windows / "train").draw(1, random.Random(0), 0)
    shown = Condition(**{name: batch[name] for name in ("source", "seconds", "pose", "text")})
    with torch.no_grad():
        one, other = (each(batch["target"], torch.tensor([0.5]), shown) for each in (base, net))
    assert one.abs().max() > 0.01
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    with pytest.raises(WeightsError, match="was trained for"):
        apply_editing(base, "wan2.1-i2v-14b", out)
    save_file(tensors, tmp_path / "other.safetensors", metadata={"unisync": "{}"})
    with pytest.raises(WeightsError, match="is no file of kind"):
        apply_editing(base, T2V, tmp_path / "other.safetensors")


def test_only_what_is_new_and_the_lora_learn_and_checkpointing_changes_no_gradient() -> None:
    found = []
    for checkpointing in (False, True):
        net = network(editing=True)
        changes = prepare_network(net, LoraRecipe(rank=4), checkpointing)
        names = changes.by_name().keys()
        assert all("lora_" in name or name.startswith("pose_encoder") or name == NEW_CHANNELS for name in names)
        assert {name for name, value in net.named_parameters() if value.requires_grad} == names
        for value in changes.parameters():
            torch.nn.init.constant_(value, 0.01)
        z, condition = given(net)
        batch = condition.tensors
        torch.manual_seed(2)
        loss = edit_loss(net, batch | {"target": z, "mask": torch.ones_like(z[:, :1])}, LargeRecipe(steps=1))
        loss.backward()
        found.append([value.grad for value in changes.parameters()])
    assert all(
        one is not None and other is not None and torch.equal(one, other) for one, other in zip(*found, strict=True)
    )
    others = prepare_network(network(editing=True), LoraRecipe(rank=4), False)
    kept = {name: value.clone() for name, value in changes.by_name().items()}
    with standing_in(net, others):
        assert all(torch.equal(dict(net.named_parameters())[name], value) for name, value in others.by_name().items())
    assert all(torch.equal(value, kept[name]) for name, value in changes.by_name().items())


def test_two_processes_with_shared_out_weights_have_the_gradient_of_whole_ones() -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    env = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launch, str(Path(__file__).parent / "sharded.py")], capture_output=True, text=True, env=env, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_what_is_missing_is_said_before_anything_is_loaded(tmp_path: Path) -> None:
    recipe = read_recipe(ROOT / "recipes" / "wan-lora.toml", TrainOptions(out=str(tmp_path / "x"), steps=1))
    with pytest.raises(OptionError, match="'backbone' names"):
        train_by(replace(recipe, wan=replace(recipe.wan, backbone="")))
    with pytest.raises(WeightsError, match=r"model\.safetensors: no such weights file"):
        train_by(recipe)
    with pytest.raises(OptionError, match=r"give a table \[lora\]"):
        replace(recipe, lora=None)
