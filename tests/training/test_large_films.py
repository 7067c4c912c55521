"""From a dataset to a model that was taught to edit, and a film dubbed with it, by two commands, in small."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from faces import lay
from unisync import api
from unisync.backbones.base import chosen_backbone
from unisync.backbones.wan.encoding import Encoders
from unisync.errors import OptionError, WeightsError
from unisync.media import EncodeOptions, drawn, probe, read_frames, write_film
from unisync.nets.storage import Fp8Linear
from unisync.nets.wan.editing import ADDED, taught_by
from unisync.options import DubOptions, TrainOptions
from unisync.scanning import save_plan, scan_film
from unisync.training import large
from unisync.training.canvases import Canvases
from unisync.training.dataset import DatasetWriter, pack
from unisync.training.loop import Batch, accelerator
from unisync.training.windows import ByLevel, Windows
from unisync.types import ArrayPicture, Frame, Pixels
from wan_folders import CANVAS, small_families, write_model, write_parts

LENGTH, KEY, OTHER = 5, "multitalk", "x-dub-5b"
Flags = dict[str, str]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Flags]]:
    """The flags of two families in small."""
    with small_families():
        parts = write_parts(tmp_path_factory.mktemp("models"))
        yield {key: write_model(key, parts) for key in (KEY, OTHER)}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, face: Canvases) -> Path:
    """Two faces to train on, one without sound, and one held out."""
    folder = tmp_path_factory.mktemp("dataset")
    light = np.linspace(0.5, 1, len(face.pixels))[:, None, None, None]
    noise = np.random.default_rng(0).normal(0, 4000, 16000 * 12 // 25).astype(np.int16)
    spoken = replace(face, pixels=(face.pixels * light).astype(np.uint8), samples=noise)
    with DatasetWriter(folder, {}) as writer:
        writer.add("spoken", pack(spoken), "train", "a", {})
        writer.add("silent", pack(face), "train", "a", {})
        writer.add("held", pack(spoken), "held", "b", {})
    return folder


@pytest.fixture(scope="module")
def taught(models: dict[str, Flags], dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that a recipe writes in one call."""
    return api.train(recipe(tmp_path_factory.mktemp("taught"), models[KEY]), options=TrainOptions(dataset=str(dataset)))


def recipe(folder: Path, flags: Flags, **changes: object) -> Path:
    """Write a recipe and return its path."""
    wan = {"canvas": CANVAS, "length": LENGTH, "steps": 3, "warmup": 1, "learning_rate": 0.02, "ema": 0.0}
    lines = [f'kind = "wan"\nwork = "{folder / "work"}"\nout = "{folder / "out.safetensors"}"']
    lines += ["[lora]\nrank = 4\nalpha = 8", "[wan]\naccumulate = 1"]
    lines += [f"{name} = {json.dumps(value)}" for name, value in {**wan, **flags, **changes}.items()]
    (folder / "recipe.toml").write_text("\n".join(lines))
    return folder / "recipe.toml"


@pytest.mark.parametrize("key", [KEY, OTHER])
def test_windows_are_made_once_and_whole(
    key: str, models: dict[str, Flags], dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = recipe(tmp_path, models[key], steps=1)
    options = TrainOptions(dataset=str(dataset))
    found = taught_by(api.train(path, options=options))
    assert found is not None and (found.family, found.canvas, found.length) == (key, CANVAS, LENGTH)
    (folder,) = (tmp_path / "work").glob("windows-*")
    windows = Windows(folder / "train")
    assert [file.name for file in windows.files] == ["spoken-000000.pt", "spoken-000005.pt"]
    assert len(Windows(folder / "held").files) == 2
    batch = windows.batch(windows.files[:1], random.Random(0))
    assert batch["audio"].any() and batch["target"].shape[-1] == (8 if key == KEY else 4) and batch["text"].any()
    assert ("extra" in batch) is ("image" in batch) is (key == KEY) and ("reference" in batch) is (key == OTHER)
    # One that is lost is made again, no other is.
    windows.files[1].unlink()
    kept, calls = windows.files[0].stat().st_mtime_ns, list[int]()
    encode = Encoders.encode
    monkeypatch.setattr(Encoders, "encode", lambda self, pixels: calls.append(len(pixels)) or encode(self, pixels))
    api.train(path, options=options)
    assert windows.files[1].exists() and windows.files[0].stat().st_mtime_ns == kept
    assert calls.count(LENGTH) == 4  # target, two sources, pose


def test_what_was_taught_changes_what_is_dubbed(models: dict[str, Flags], taught: Path, tmp_path: Path) -> None:
    check_dubbing(models[KEY], taught, tmp_path)


def check_dubbing(flags: Flags, taught: Path, tmp_path: Path, **options: object) -> None:
    """Dub a small film with and without what was taught, and with less of it: each time another film comes out."""
    film, speech = tmp_path / "film.mkv", tmp_path / "speech.wav"
    shown = (Frame(i, Fraction(i, 25), ArrayPicture(lay([(160 + i, 130, 1.2)], (320, 240)))) for i in range(7))
    write_film(shown, film, drawn("x", 320, 240, Fraction(25), 7), None, EncodeOptions("h264", 16, "ultrafast"))
    save_plan(scan_film(probe(film)), tmp_path / "plan")
    soundfile.write(speech, np.random.default_rng(0).normal(0, 0.2, 16000 * 7 // 25), 16000)

    def dubbed(name: str, **more: object) -> list[Pixels]:
        given = {"plan": str(tmp_path / "plan"), "codec": "ffv1", "steps": 2, "threads": 1, "device": "cpu"}
        every = DubOptions.from_dict({**flags, **given, **options, **more})
        report = api.dub(film, speech, tmp_path / name, options=every)
        assert any("taught it to edit windows of 5 frames of 64 px" in line for line in report.facts["parts"]) is (
            "lora" in more
        )
        return [frame.pixels for frame in read_frames(probe(tmp_path / name))]

    plain = dubbed("plain.mkv", canvas=CANVAS, length=LENGTH)
    made = dubbed("made.mkv", lora=str(taught))
    deaf = tensors_changed(taught, tmp_path / "no-source.safetensors", ADDED)
    blind = tensors_changed(taught, tmp_path / "no-pose.safetensors", "pose_encoder.gate")
    for other in (plain, dubbed("deaf.mkv", lora=str(deaf)), dubbed("blind.mkv", lora=str(blind))):
        assert max(np.abs(a.astype(int) - b).max() for a, b in zip(made, other, strict=True)) > 2


def test_omnisyncs_training_leaves_what_its_method_takes(
    models: dict[str, Flags],
    face: Canvases,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Lips that open after five frames, as the light grows: either window has its pseudo-pair in the other."""
    marks, light = face.landmarks.copy(), np.linspace(0.5, 1, len(face.pixels))[:, None, None, None]
    marks[5:, 14, 1] += 8
    noise = np.random.default_rng(0).normal(0, 4000, 16000 * 12 // 25).astype(np.int16)
    talking = Canvases((face.pixels * light).astype(np.uint8), marks, face.seconds, noise, "")
    with DatasetWriter(tmp_path / "talking", {}) as writer:
        writer.add("talking", pack(talking), "train", "a", {})
    batches, loss = list[Batch](), large.edit_loss
    monkeypatch.setattr(large, "edit_loss", lambda net, batch, by: batches.append(batch) or loss(net, batch, by))
    path = recipe(tmp_path, models[OTHER], paired=1.0, text="zero")
    out = api.train(path, options=TrainOptions(dataset=str(tmp_path / "talking")))
    assert "2 of 2 windows have a pseudo-pair" in capsys.readouterr().out
    (folder,) = (tmp_path / "work").glob("windows-*")
    first, second = (torch.load(path) for path in Windows(folder / "train").files)
    may = [*first["pairs"], *second["pairs"], first["target"], second["target"]]
    assert len(may) == 4 and not torch.equal(may[0], may[2]) and not torch.equal(may[1], may[3])
    assert len(batches) == 3 and all(0 < float(batch["sigma"]) < 1 for batch in batches)
    for batch in batches:
        (is_second,) = (batch["target"] == second["target"].float()).flatten(1).all(1).tolist()
        shown = may[is_second] if float(batch["sigma"]) > 0.85 else may[3 - is_second]
        assert torch.equal(batch["source"][0], shown.float()) and torch.equal(batch["reference"], batch["source"])
    check_dubbing({**models[OTHER], "text": "zero"}, out, tmp_path, method="omnisync")


def test_windows_are_kept_by_the_bounds_of_their_pairs(models: dict[str, Flags], dataset: Path, tmp_path: Path) -> None:
    def made(**changes: Any) -> Path:
        by = large.LargeRecipe(**{**models[OTHER], "canvas": CANVAS, "length": LENGTH, **changes})
        return large.make_windows(by.options("cpu"), dataset, tmp_path, accelerator(), by)

    plain = made()
    assert plain == made(pair_pose=0.5, pair_lips=0.1)  # nothing is paired
    paired = made(paired=0.5)
    assert paired == made(paired=1.0, paired_above=0.5)
    assert not Windows(paired / "train", ByLevel(1.0, 0.85, random.Random.random)).num_paired  # the lips are still
    others = {made(paired=1.0, pair_pose=0.5), made(paired=1.0, pair_lips=0.1)}
    assert len({plain, paired, *others}) == 4
    assert "pairs" not in torch.load(Windows(plain / "train").files[0])


def tensors_changed(taught: Path, out: Path, name: str) -> Path:
    """Write a taught file in which one tensor is zero."""
    tensors = load_file(taught)
    assert tensors[name].any()
    with safe_open(taught, "pt") as file:
        about = file.metadata()
    save_file({**tensors, name: torch.zeros_like(tensors[name])}, out, metadata=about)
    return out


def test_a_taught_model_is_used_as_it_was_taught(
    models: dict[str, Flags], taught: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = chosen_backbone(DubOptions.from_dict({**models[KEY], "lora": str(taught)}))
    assert (backbone.geometry.canvas, backbone.geometry.length) == (CANVAS, LENGTH)
    assert backbone.habits.pose and backbone.habits.start is None and backbone.habits.carry
    net, added = backbone.transformer, load_file(taught)[ADDED]  # type: ignore[attr-defined]
    assert net.config.editing and torch.allclose(net.patch_embedding.weight[:, -16:].float(), added, atol=1e-3)
    monkeypatch.setattr("unisync.backbones.wan.backbone.computes_bf16", lambda _: True)
    small = chosen_backbone(DubOptions.from_dict({**models[KEY], "lora": str(taught), "storage": "fp8"}))
    rounded = small.transformer.blocks[0].ffn[0]  # type: ignore[attr-defined]
    assert isinstance(rounded, Fp8Linear)
    weight, whole = rounded.weight.float() * rounded.scale, net.blocks[0].ffn[0].weight
    assert float((weight - whole).norm() / whole.norm()) < 0.04


def test_what_does_not_go_together_is_refused(
    models: dict[str, Flags], taught: Path, tmp_path: Path, dataset: Path
) -> None:
    for key, lora, told in (
        (OTHER, str(taught), "was trained for multitalk and not for x-dub-5b"),
        (KEY, f"{taught}:0.5", "taken whole or not at all"),
        (KEY, f"{taught},{taught}", "give only one of them"),
    ):
        with pytest.raises((OptionError, WeightsError), match=told):
            api.parts(DubOptions.from_dict({**models[key], "lora": lora}))
    base, adapter = models[KEY]["backbone"], models[KEY]["adapter"]
    assert "taught it to edit" in list(api.recognise(base, adapter=adapter, loras=[taught]))[-1]
    with pytest.raises(WeightsError, match="was trained for multitalk"):
        list(api.recognise(base, loras=[taught]))
    given = TrainOptions(dataset=str(dataset))
    for changes, told in (
        ({"canvas": 256}, "canvases of 128 px are smaller than the 256.*prepare it with --canvas 256"),
        ({"length": 13}, "no sample with sound to train on has 13 frames"),
        ({"text": ""}, "give --text FILE"),
    ):
        with pytest.raises(OptionError, match=told):
            api.train(recipe(tmp_path, models[KEY], **changes), options=given)
    assert not (tmp_path / "out.safetensors").exists()
