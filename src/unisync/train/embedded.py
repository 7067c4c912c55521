"""The whole way to the embedded weights: python -m unisync.train.embedded FILMS WORK [--speakers FILE] [--minutes N]."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch

from unisync.backbones.mini import KIND, Mini, embedded_weights
from unisync.nets.audio import AudioConfig, AudioEncoder
from unisync.nets.transformer import Transformer, TransformerConfig
from unisync.nets.vae import FaceVae, VaeConfig
from unisync.nets.weights import save_weights
from unisync.train.audio import AudioRecipe, lip_gain, load_utterances, split, train_audio
from unisync.train.canvases import prepare
from unisync.train.latents import encode_folder
from unisync.train.transformer import TransformerRecipe, load_clips, train
from unisync.train.vae import VaeRecipe, train_vae

CANVAS = 128
LENGTH = 8
SUFFIXES = (".mp4", ".mkv", ".mov", ".webm", ".avi")


def main() -> None:
    """Run the stages that have not run yet; each leaves its result in WORK."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("films", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--speakers", type=Path, help="JSON lines with 'file' and 'speaker'")
    parser.add_argument(
        "--minutes", type=float, default=90.0, help="for the transformer; the autoencoder has a quarter of it"
    )
    parser.add_argument("--go-on", action="store_true", help="begin with the shipped weights instead of none")
    parser.add_argument("--out", type=Path, default=embedded_weights())
    given = parser.parse_args()
    canvases, vae_file, audio_file = given.work / "canvases", given.work / "vae.pt", given.work / "audio.pt"
    if given.go_on and not vae_file.exists():
        unpack(embedded_weights(), given.work)
    films = sorted(p for p in given.films.iterdir() if p.suffix.lower() in SUFFIXES)
    for line in prepare(films, canvases, CANVAS, _speakers(given.speakers)):
        print(line, flush=True)
    if not vae_file.exists():
        train_vae(canvases, vae_file, VaeRecipe(minutes=given.minutes / 4), VaeConfig())
    if not audio_file.exists():
        train_audio(canvases, audio_file, AudioRecipe(), AudioConfig())
    vae, audio = FaceVae(VaeConfig()), AudioEncoder(AudioConfig())
    vae.load_state_dict(torch.load(vae_file, weights_only=True))
    audio.load_state_dict(torch.load(audio_file, weights_only=True))
    encode_folder(canvases, given.work / "latents", vae)
    config = TransformerConfig(prediction="data")
    clips = load_clips(given.work / "latents", audio)
    train(clips, audio, given.work / "transformer.pt", TransformerRecipe(minutes=given.minutes), config)
    gain = lip_gain(audio, split(load_utterances(canvases), AudioRecipe())[1])
    transformer = Transformer(config)
    transformer.load_state_dict(torch.load(given.work / "transformer.pt", weights_only=True)["average"])
    pack(given.out, vae, audio, transformer, gain)


def pack(out: Path, vae: FaceVae, audio: AudioEncoder, transformer: Transformer, gain: float) -> None:
    """Write the shipped file: the three networks and the spec they need. gain: from `unisync.train.audio.lip_gain`."""
    spec = {
        "kind": KIND,
        "canvas": CANVAS,
        "length": LENGTH,
        "lip_gain": round(gain, 3),
        "vae": asdict(vae.config),
        "audio": asdict(audio.config),
        "transformer": asdict(transformer.config),
    }
    save_weights(out, {"vae": vae, "audio": audio, "transformer": transformer}, spec)


def unpack(weights: Path, work: Path) -> None:
    """Write a shipped file's networks into WORK as the stages leave them, so that training goes on from there."""
    work.mkdir(parents=True, exist_ok=True)
    made = Mini(weights)
    torch.save(made.vae.state_dict(), work / "vae.pt")
    torch.save(made.audio.state_dict(), work / "audio.pt")
    torch.save({"average": made.transformer.state_dict()}, work / "transformer.pt")


def _speakers(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return {row["file"]: row["speaker"] for row in rows}


if __name__ == "__main__":
    main()
