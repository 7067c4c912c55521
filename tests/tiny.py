"""A backbone of the embedded kind, tiny and untrained, for what does not depend on its skill."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from unisync.backbones.mini import KIND
from unisync.nets.audio import AudioConfig, AudioEncoder
from unisync.nets.transformer import Transformer, TransformerConfig
from unisync.nets.vae import FaceVae, VaeConfig
from unisync.nets.weights import save_weights


def tiny_weights(folder: Path, canvas: int = 64, length: int = 6) -> Path:
    """Write random weights whose every part has a say, and return their path."""
    torch.manual_seed(0)
    vae = FaceVae(VaeConfig(latent_channels=4, width=16, deep_width=16))
    audio = AudioEncoder(AudioConfig(width=16))
    transformer = Transformer(
        TransformerConfig(
            channels=4, width=24, layers=2, heads=2, ffn=48, frequencies=32, audio_width=16, audio_tokens=3,
            audio_layers=(1,), pose_grid=(2, 4, 4), prediction="data",
        )
    )  # fmt: skip
    with torch.no_grad():
        for parameter in transformer.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.1)
    path = folder / "tiny.safetensors"
    spec = {"kind": KIND, "canvas": canvas, "length": length, "steps": 2, "lip_gain": 1.5}
    spec |= {"vae": asdict(vae.config), "audio": asdict(audio.config), "transformer": asdict(transformer.config)}
    save_weights(path, {"vae": vae, "audio": audio, "transformer": transformer}, spec)
    return path
