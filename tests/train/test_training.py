"""The way from a film to the shipped file, on one small film and small networks."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from faces import frames, lay
from unisync import flow
from unisync.backbones.mini import Mini
from unisync.errors import UnisyncError
from unisync.face.detect import FaceModels
from unisync.media import EncodeOptions, Speech, drawn, write_film
from unisync.nets.audio import AudioConfig, AudioEncoder
from unisync.nets.transformer import Transformer, TransformerConfig
from unisync.nets.vae import FaceVae, VaeConfig
from unisync.train.audio import AudioRecipe, audio_loss, augmented, load_utterances, split
from unisync.train.canvases import Canvases, cut_canvases, load_canvases, prepare
from unisync.train.embedded import pack, unpack
from unisync.train.latents import encode_clip, encode_folder
from unisync.train.transformer import Sampler, TransformerRecipe, draw_noise, load_clips, loss_of, stale, train
from unisync.train.vae import VaeRecipe, train_vae, vae_loss

NUM = 40
VAE = VaeConfig(latent_channels=4, width=16, deep_width=16)
SMALL = TransformerConfig(
    channels=4, width=24, layers=2, heads=2, ffn=48, frequencies=32, audio_width=16, audio_layers=(1,), pose_grid=(2, 4, 4),
    prediction="data",
)  # fmt: skip


@pytest.fixture(scope="module")
def canvases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of canvases cut from one film with sound; a film without a face is told and skipped."""
    folder = tmp_path_factory.mktemp("train")
    noise = np.random.default_rng(0).normal(0, 0.1, int(NUM / 25 * 16000))
    soundfile.write(folder / "noise.wav", noise, 16000)
    film, empty = folder / "talk.mp4", folder / "empty.mp4"
    fast = EncodeOptions("h264", 18, "ultrafast")
    pictures = [lay([(240 + i, 170, 1.4)]) for i in range(NUM)]
    write_film(frames(pictures), film, drawn("x", 480, 360, 25, NUM), Speech(folder / "noise.wav"), fast)
    write_film(frames([lay([])] * 20), empty, drawn("x", 480, 360, 25, 20), None, fast)
    lines = list(prepare([empty, film], folder / "canvases", 64, {"talk.mp4": "ann"}))
    assert "skipped empty.mp4" in lines[0] and f"{NUM} frames" in lines[1]
    assert list(prepare([film], folder / "canvases", 64)) == []  # what is there is kept
    return folder / "canvases"


def test_canvases_are_what_inference_sees(canvases: Path) -> None:
    clip = load_canvases(canvases / "talk.npz")
    assert clip.pixels.shape == (NUM, 64, 64, 3) and clip.landmarks.shape == (NUM, 468, 2) and clip.speaker == "ann"
    eyes = clip.landmarks[:, [33, 133, 362, 263]].mean(1)
    assert np.allclose(eyes, (31.5, 0.12 * 64 - 0.5), atol=2.5)
    assert abs(len(clip.samples) / 16000 - NUM / 25) < 0.02 and np.abs(clip.samples).max() > 1000


def test_a_film_without_a_face_is_refused(tmp_path: Path) -> None:
    film = tmp_path / "none.mp4"
    write_film(frames([lay([])] * 15), film, drawn("x", 480, 360, 25, 15))
    with pytest.raises(UnisyncError, match="no face"):
        cut_canvases(film, 64, FaceModels(), "x")


def test_latents_hold_the_film_its_neutral_self_and_its_pose(canvases: Path) -> None:
    clip = load_canvases(canvases / "talk.npz")
    data = encode_clip(clip, FaceVae(VAE), random.Random(0))
    for name in ("latents", "neutral", "pose"):
        assert data[name].shape == (NUM, 4, 8, 8)  # type: ignore[attr-defined]
    mask = data["mask"]
    assert isinstance(mask, torch.Tensor) and 0.1 < mask.float().mean() < 0.9
    assert not mask[:, 0].any() and mask[:, 4, 3:5].all()


@pytest.fixture(scope="module")
def latents(canvases: Path) -> Path:
    torch.manual_seed(0)
    folder = canvases.parent / "latents"
    encode_folder(canvases, folder, FaceVae(VAE))
    return folder


def sampler(latents: Path, **changes: float) -> tuple[Sampler, TransformerRecipe]:
    torch.manual_seed(0)
    audio = AudioEncoder(AudioConfig(width=16))
    recipe = replace(TransformerRecipe(batch=4, frames=4), **changes)  # type: ignore[arg-type]
    return Sampler(load_clips(latents, audio), recipe, SMALL, torch.zeros(16)), recipe


def test_sources_carry_other_lips_than_targets(latents: Path) -> None:
    draws, _ = sampler(latents, transplant=0.0, masked=1.0, silent=0.0)
    batch = next(iter(draws))
    inside = batch["mask"].expand_as(batch["target"]) > 0
    assert not batch["source"][inside].any()
    assert torch.equal(batch["source"][~inside], batch["target"][~inside])
    draws, _ = sampler(latents, transplant=0.0, masked=0.0, silent=1.0)
    batch = next(iter(draws))
    assert torch.equal(batch["source"], batch["target"])  # in silence a closed mouth stays as it is


def test_conditions_are_dropped_as_often_as_asked(latents: Path) -> None:
    draws, recipe = sampler(latents, batch=400)
    batch = next(iter(draws))
    audio, lips = batch["keep_audio"], batch["keep_lips"]
    neither = float(((audio == 0) & (lips == 0)).float().mean())
    assert abs(neither - recipe.drop_both) < 0.03
    assert abs(float((audio == 0).float().mean()) - (0.05 + 0.95 * recipe.drop_audio)) < 0.06


def test_noise_is_unit_and_partly_shared() -> None:
    torch.manual_seed(0)
    noise = draw_noise(torch.Size((64, 4, 6, 8, 8)), 1.0)
    assert abs(float(noise.std()) - 1) < 0.02
    own = draw_noise(torch.Size((64, 4, 6, 8, 8)), 0.0)
    assert abs(float((own[:, :, 0] * own[:, :, 1]).mean())) < 0.02
    assert float((noise[:, :, 0] * noise[:, :, 1]).mean()) > 0.3


def test_what_is_stale_is_never_more_than_the_noise() -> None:
    torch.manual_seed(0)
    target, source, level = torch.zeros(500, 1, 1, 1, 1), torch.ones(500, 1, 1, 1, 1), torch.rand(500, 1, 1, 1, 1)
    mixed = stale(target, source, level, 0.5)
    assert (mixed <= level).all() and abs(float((mixed > 0).float().mean()) - 0.5) < 0.08
    assert torch.equal(stale(target, source, level, 0.0), target)


def test_the_loss_is_eq_3_for_a_network_that_predicts_data(latents: Path) -> None:
    draws, recipe = sampler(
        latents, min_sigma=1e-3, outside_weight=1.0, lips_weight=0.0, shared_noise=0.0, weight_floor=0.2
    )
    batch = next(iter(draws)) | {"mask": torch.zeros(4, 1, 4, 8, 8)}
    network = Transformer(SMALL)
    with torch.no_grad():
        torch.manual_seed(5)
        got = float(loss_of(network, batch, recipe))
        torch.manual_seed(5)
        sigma = torch.sigmoid(torch.randn(4) + recipe.sigma_mean).view(-1, 1, 1, 1, 1)
        noise = draw_noise(batch["target"].shape, 0.0)
        z = flow.noised(batch["target"], noise, sigma)
        velocity = (z - batch["source"]) / sigma  # a new network gives its source
        error = (velocity - flow.target_velocity(batch["target"], noise)).square()
        expected = float((error * (flow.loss_weight(sigma) + 0.2)).mean())
    assert got == pytest.approx(expected, rel=1e-3)


def test_training_learns_resumes_and_packs(latents: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draws, recipe = sampler(latents, masked=1.0, transplant=0.0, silent=0.0)
    batch = next(iter(draws))
    torch.manual_seed(0)
    audio, vae = AudioEncoder(AudioConfig(width=16)), FaceVae(VAE)
    out = tmp_path / "transformer.pt"
    quick = replace(recipe, minutes=0.04, learning_rate=3e-3, warmup=5, ema=0.5)
    train(draws.clips, audio, out, quick, SMALL)
    state = torch.load(out, weights_only=True)
    assert state["step"] > 10
    network = Transformer(SMALL)
    torch.manual_seed(1)
    before = loss_of(network, batch, recipe).item()
    network.load_state_dict(state["average"])
    torch.manual_seed(1)
    assert loss_of(network, batch, recipe).item() < 0.9 * before
    train(draws.clips, audio, out, replace(quick, minutes=0.06), SMALL)
    assert torch.load(out, weights_only=True)["step"] > state["step"]  # it went on, it did not start over
    pack(tmp_path / "out.safetensors", vae, audio, network, gain=1.7)
    made = Mini(tmp_path / "out.safetensors")
    unpack(tmp_path / "out.safetensors", tmp_path / "again")
    train(draws.clips, audio, tmp_path / "again" / "transformer.pt", replace(quick, minutes=0.005), SMALL)
    again = torch.load(tmp_path / "again" / "transformer.pt", weights_only=True)
    assert again["step"] > 0 and set(again["average"]) == set(state["average"])
    assert made.lip_gain == 1.7 and made.geometry.canvas == 128 and made.transformer.config == SMALL
    capsys.readouterr()


def test_the_autoencoder_learns(canvases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = VaeRecipe(minutes=0.05, batch=4, warmup=5, held_out=1000)
    torch.manual_seed(0)
    x = torch.from_numpy(load_canvases(canvases / "talk.npz").pixels[:4]).permute(0, 3, 1, 2).float() / 127.5 - 1
    vae = FaceVae(VAE)
    before = vae_loss(vae, x, recipe).item()
    with pytest.raises(ValueError, match="held-out"):
        train_vae(canvases, tmp_path / "vae.pt", recipe, VAE)
    twice = tmp_path / "two"
    twice.mkdir()
    for name in "ab":
        (twice / f"{name}.npz").write_bytes((canvases / "talk.npz").read_bytes())
    train_vae(twice, tmp_path / "vae.pt", replace(recipe, held_out=2), VAE)
    vae.load_state_dict(torch.load(tmp_path / "vae.pt", weights_only=True))
    assert vae_loss(vae, x, recipe).item() < 0.7 * before
    assert vae.std.min() > 0 and not torch.equal(vae.std, torch.ones(4))
    capsys.readouterr()


def test_utterances_need_moving_lips(canvases: Path) -> None:
    assert load_utterances(canvases) == []  # a still picture moved about does not speak
    (spoken,) = load_utterances(canvases, min_motion=0.0)
    assert spoken.mel.shape == (2 * len(spoken.lips), 80) and spoken.lips.shape[1] == 6
    clip = Canvases(*vars(load_canvases(canvases / "talk.npz")).values())
    assert len(clip.samples)


def test_no_speaker_is_on_both_sides_of_the_split() -> None:
    from unisync.train.audio import Utterance

    many = [Utterance(f"s{i % 20}", torch.zeros(400, 80), torch.zeros(200, 6)) for i in range(100)]
    train_part, held = split(many, AudioRecipe())
    assert held and not {u.speaker for u in train_part} & {u.speaker for u in held}


def test_augmentation_keeps_the_shape_and_varies() -> None:
    rnd = random.Random(0)
    mel = torch.randn(192, 80)
    made = [augmented(mel, rnd) for _ in range(8)]
    assert all(m.shape == mel.shape and m.isfinite().all() for m in made)
    assert not torch.equal(made[0], made[1])


def test_the_audio_loss_ignores_what_is_padding() -> None:
    torch.manual_seed(0)
    net = AudioEncoder(AudioConfig(width=16)).eval()
    mel, truth, valid = torch.randn(2, 192, 80), torch.randn(2, 96, 6), torch.ones(2, 96, 1)
    valid[:, 60:] = 0
    one = audio_loss(net, mel, truth, valid, AudioRecipe())
    truth[:, 60:] = 100.0
    assert torch.allclose(one, audio_loss(net, mel, truth, valid, AudioRecipe()))
