"""Weights files say what they are, and refuse what they are not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from unisync.errors import WeightsError
from unisync.nets.vae import FaceVae, VaeConfig
from unisync.nets.weights import fill, read_weights, save_weights

SMALL = VaeConfig(latent_channels=4, width=16, deep_width=16)


def test_round_trip(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae = FaceVae(SMALL)
    vae.mean.fill_(0.123456789)
    path = tmp_path / "a.safetensors"
    save_weights(path, {"vae": vae}, {"kind": "test", "canvas": 128})
    tensors, spec = read_weights(path)
    assert spec == {"kind": "test", "canvas": 128}
    other = FaceVae(SMALL)
    fill(other, tensors, "vae", path)
    assert torch.equal(other.mean, vae.mean)  # buffers keep their precision
    for a, b in zip(vae.parameters(), other.parameters(), strict=True):
        assert torch.equal(a.to(torch.bfloat16).float(), b)


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(WeightsError, match="no such weights file"):
        read_weights(path)
    path.write_bytes(b"not at all")
    with pytest.raises(WeightsError, match="damaged"):
        read_weights(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match="not UniSync weights"):
        read_weights(path)
    save_weights(path, {"vae": FaceVae(SMALL)}, {"kind": "test"})
    tensors, _ = read_weights(path)
    with pytest.raises(WeightsError, match="does not fit"):
        fill(FaceVae(VaeConfig()), tensors, "vae", path)
