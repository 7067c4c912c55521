"""Samples go into shards and come out as they were; what is half written or damaged is not a dataset."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

import unisync.training.dataset as dataset_module
from faces import portrait
from unisync.errors import MediaError
from unisync.training.canvases import Canvases
from unisync.training.dataset import DatasetWriter, pack, read_rows, read_samples, unpack


def talk(num: int = 7, speaker: str = "ann", sound: bool = True) -> Canvases:
    rng = np.random.default_rng(num)
    face = cv2.resize(portrait()[60:220, 140:300], (64, 64), interpolation=cv2.INTER_AREA)
    pixels = np.stack([np.roll(face, i, axis=1) for i in range(num)])
    landmarks = rng.uniform(-5, 69, (num, 468, 2)).astype(np.float32)
    samples = rng.integers(-9000, 9000, num * 640).astype(np.int16) if sound else np.zeros(0, np.int16)
    return Canvases(pixels, landmarks, np.arange(num) / 25 + 0.001, samples, speaker)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    with DatasetWriter(tmp_path / "set", {"canvas": 64}) as writer:
        writer.add("a-1", pack(talk(7)), "train", "ann", {"film": "a.mp4", "yaw": 3.5})
        writer.add("b-1", pack(talk(5, sound=False)), "held", "bob", {"film": "b.mp4"})
        writer.add("a-2", pack(talk(9)), "train", "ann", {"film": "a.mp4"})
    return tmp_path / "set"


def test_samples_come_out_as_they_went_in(dataset: Path) -> None:
    samples = {sample.key: sample for sample in read_samples(dataset)}
    assert list(samples) == ["b-1", "a-1", "a-2"]
    made, truth = samples["a-1"].canvases, talk(7)
    assert np.abs(made.pixels.astype(int) - truth.pixels).mean() < 2.5  # the pictures have a seam
    assert np.abs(made.landmarks - truth.landmarks).max() < 0.02
    assert np.allclose(made.seconds, truth.seconds, atol=1e-6)
    assert np.array_equal(made.samples, truth.samples) and made.samples.dtype == np.int16
    assert samples["a-1"].figures == {"film": "a.mp4", "yaw": 3.5}
    assert [samples[key].canvases.speaker for key in samples] == ["bob", "ann", "ann"]
    assert len(samples["b-1"].canvases.samples) == 0


def test_parts_are_read_alone(dataset: Path) -> None:
    assert [sample.key for sample in read_samples(dataset, "train")] == ["a-1", "a-2"]
    assert [(row.key, row.frames) for row in read_rows(dataset, "held")] == [("b-1", 5)]
    with pytest.raises(ValueError, match="one of train, held"):
        read_rows(dataset, "test")


def test_lossless_is_lossless() -> None:
    truth = talk(3)
    assert np.array_equal(unpack(pack(truth, lossless=True), "x").pixels, truth.pixels)


def test_shards_are_plain_tars_that_say_what_they_hold(dataset: Path) -> None:
    with tarfile.open(dataset / "shards-1" / "train-00000.tar") as tar:
        names = tar.getnames()
        file = tar.extractfile("a-1.json")
        assert file is not None
        about = json.loads(file.read())
    assert names[:4] == ["a-1.json", "a-1.frames", "a-1.landmarks.npy", "a-1.flac"]
    assert (about["speaker"], about["part"], len(about["lengths"])) == ("ann", "train", 7)


def test_shards_are_closed_when_they_are_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_module, "SHARD_BYTES", 100_000)
    with DatasetWriter(tmp_path, {}) as writer:
        for i in range(12):
            writer.add(f"k{i}", pack(talk(8)), "train", "ann", {})
    assert len(list((tmp_path / "shards-1").iterdir())) > 1
    assert sorted(sample.key for sample in read_samples(tmp_path)) == sorted(f"k{i}" for i in range(12))


def test_a_writer_that_fails_leaves_the_old_dataset(dataset: Path) -> None:
    before = sorted(path.name for path in dataset.rglob("*"))

    def fail() -> None:
        with DatasetWriter(dataset, {}) as writer:
            writer.add("c-1", pack(talk(3)), "train", "cyd", {})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert sorted(path.name for path in dataset.rglob("*")) == before
    assert len(list(read_samples(dataset))) == 3


def test_a_new_writer_takes_the_old_ones_place(dataset: Path) -> None:
    with DatasetWriter(dataset, {}) as writer:
        writer.add("c-1", pack(talk(3)), "train", "cyd", {})
    assert [sample.key for sample in read_samples(dataset)] == ["c-1"]
    assert [path.name for path in dataset.glob("shards-*")] == ["shards-2"]


def test_what_is_no_dataset_is_named(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no finished dataset"):
        read_rows(tmp_path / "none")
    shard = dataset / "shards-1" / "train-00000.tar"
    shard.write_bytes(shard.read_bytes()[:2000])
    with pytest.raises(MediaError, match=r"train-00000.tar is damaged at sample a-1"):
        list(read_samples(dataset, "train"))
    (dataset / "samples.jsonl").write_text("{}\n")
    with pytest.raises(MediaError, match=r"samples.jsonl is missing or damaged"):
        read_rows(dataset)
    (dataset / "dataset.json").write_text('{"version": 99}')
    with pytest.raises(MediaError, match="newer version"):
        read_rows(dataset)
