"""What public models hear: encoders over long films without seams, and features at each latent frame's moments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
)

from unisync.backbones.speech_encoders import Encoder, Heard, Needs, encoder_of, in_pieces, listen
from unisync.backbones.wan.hearing import condition_of, latent_groups
from unisync.demo import demo_speech
from unisync.errors import WeightsError
from unisync.media import read_sound
from unisync.types import Floats, Sound
from wan_folders import write_whisper

WIDTH, LONG = 32, 65


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("encoders")
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    Wav2Vec2Model(config).save_pretrained(root / "wav2vec2")
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(root / "wav2vec2")
    write_whisper(root / "whisper", WIDTH)
    return root


def speech(seconds: float) -> Floats:
    own = read_sound(demo_speech()).samples
    return np.tile(own, int(seconds * 16000 / len(own)) + 1)[: round(seconds * 16000)]


def encoders(folder: Path) -> dict[str, Encoder]:
    return {
        "whole": encoder_of(folder / "wav2vec2", Needs("wav2vec2", WIDTH, 3)),
        "slow": encoder_of(folder / "wav2vec2", Needs("wav2vec2", WIDTH, 2, 25.0)),
        "whisper": encoder_of(folder / "whisper", Needs("whisper", WIDTH)),
    }


@pytest.mark.parametrize(("name", "states", "rate"), [("whole", 3, 50), ("slow", 2, 25), ("whisper", 1, 50)])
def test_long_films_have_no_seams(folder: Path, name: str, states: int, rate: int) -> None:
    rows = encoders(folder)[name](speech(LONG), torch.device("cpu")).float()
    assert rows.shape == (LONG * rate, states, WIDTH) and torch.isfinite(rows).all()
    jumps = (rows[1:] - rows[:-1]).flatten(1).norm(dim=1)
    for seam in (20, 25, 30, 40, 45, 50, 60):
        near = jumps[(seam - 1) * rate : (seam + 1) * rate]
        assert near.max() <= jumps[: 19 * rate].max() * 1.25


def test_a_short_speech_is_what_transformers_makes_of_it(folder: Path) -> None:
    samples = speech(1.5)
    network = Wav2Vec2Model.from_pretrained(folder / "wav2vec2", local_files_only=True).eval()
    given = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
    with torch.no_grad():
        wanted = network(torch.from_numpy(np.pad(given, (0, 80)))[None], output_hidden_states=True).hidden_states
    rows = encoders(folder)["whole"](samples, torch.device("cpu"))
    assert torch.allclose(rows.float(), torch.stack([each[0] for each in wanted], 1), atol=5e-3)


def test_pieces_fade_into_one_another() -> None:
    lengths: list[int] = []

    def encode(piece: Floats) -> torch.Tensor:
        lengths.append(len(piece))
        return torch.full((len(piece) // 320, 1, 1), float(len(lengths)))

    num = LONG * 50
    rows = in_pieces(np.zeros(num * 320 + 80, np.float32), num, 50.0, encode)[:, 0, 0]
    assert lengths == [30 * 16000 + 80, 30 * 16000 + 80, 25 * 16000 + 80]
    assert rows[24 * 50] == 1 and rows[26 * 50] == rows[44 * 50] == 2 and rows[46 * 50] == rows[-1] == 3
    assert (rows[1:] - rows[:-1]).abs().max() < 0.03
    lengths.clear()
    assert len(in_pieces(np.zeros(320 * 1500 + 80, np.float32), 1500, 25.0, encode)) == 750 and len(lengths) == 1


def test_what_is_not_voice_is_not_heard(folder: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.01, 16000).astype(np.float32)
    given: list[Floats] = []

    class Ear:
        rate = 50.0

        def __call__(self, samples: Floats, device: torch.device) -> torch.Tensor:
            given.append(samples)
            return torch.zeros(len(samples) // 320, 1, 1)

    listen((Ear(),), Sound(noise, 16000), torch.device("cpu"))
    listen((Ear(),), Sound(speech(1), 16000), torch.device("cpu"))
    assert np.abs(given[0]).max() == 0 and np.abs(given[1]).max() > 0.1


def clock(states: int = 1, rate: float = 50.0, seconds: int = 4) -> Heard:
    """Return features that say their own moment."""
    rows = torch.arange(seconds * rate) / rate
    return Heard((rows[:, None, None].expand(-1, states, 1).contiguous(),), (rate,))


def moments(film_rate: float, num: int = 9, start: float = 1.0) -> np.ndarray:
    return start + np.arange(num) / film_rate


@pytest.mark.parametrize("film_rate", [25.0, 24000 / 1001, 30.0])
def test_latent_frames_hear_their_own_moments(film_rate: float) -> None:
    seconds = moments(film_rate)
    groups = latent_groups(torch.from_numpy(seconds), 25.0)
    assert groups.shape == (3, 4) and torch.allclose(groups[1:].flatten(), torch.from_numpy(seconds[1:]))
    assert torch.allclose(groups[0], torch.tensor([0.88, 0.92, 0.96, 1.0], dtype=torch.float64))

    injected = condition_of("audio_injector", clock(2), seconds, 25.0)[0, ..., 0]
    assert injected.shape == (3, 8) and torch.allclose(injected[:, ::2], groups.float(), atol=1e-5)

    eight = condition_of("audio_cross_attn", clock(2, 25.0), seconds, 25.0)[0, ..., 0][:, ::2]
    assert torch.allclose(eight[0, :5], 1 + torch.arange(-2, 3) / 25, atol=1e-5)
    assert torch.allclose(eight[1:, 2:6], groups[1:].float(), atol=1e-5)
    assert torch.allclose(eight[2, [0, 1]], groups[2, 0].float() - torch.tensor([0.08, 0.04]), atol=1e-5)
    assert torch.allclose(eight[2, [6, 7]], groups[2, 3].float() + torch.tensor([0.04, 0.08]), atol=1e-5)

    both = condition_of("audio_attn", clock(), seconds, 25.0)[0, ..., 0]
    assert both.shape == (3, 8) and torch.allclose(both[:, ::2], groups.float(), atol=1e-5)
    assert torch.allclose(both[:, 1::2], groups.float() + 0.02, atol=1e-5)

    spread = condition_of("k_proj", clock(), seconds, 23.0)[0, :, 0]
    span = 8 / film_rate + 1 / 23
    assert len(spread) == round(span * 50) and float(spread[0]) == pytest.approx(1.0, abs=1e-5)
    assert float(spread[-1]) == pytest.approx(1 + span * (1 - 1 / len(spread)), abs=1e-4)


def test_multitalk_at_its_own_rate_hears_whole_rows() -> None:
    rows = torch.arange(100.0)[:, None, None]
    eight = condition_of("audio_cross_attn", Heard((rows,), (25.0,)), moments(25.0), 25.0)[0, ..., 0]
    assert torch.allclose(eight[2], torch.arange(25.0 + 3, 25 + 11), atol=1e-3)  # frames 4k - 5 to 4k + 2, k = 2


def test_a_damaged_folder_is_told(folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((folder / "wav2vec2" / name).read_bytes())
    state = load_file(folder / "wav2vec2" / "model.safetensors")
    state = {name: value for name, value in state.items() if "layers.1.attention.k_proj" not in name}
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"lacks 'encoder\.layers\.1\.attention\.k_proj"):
        encoder_of(tmp_path, Needs("wav2vec2", WIDTH))
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="Wav2Vec2Model cannot be read from it"):
        encoder_of(tmp_path, Needs("wav2vec2", WIDTH))
    (tmp_path / "preprocessor_config.json").unlink()
    (tmp_path / "config.json").write_text('{"model_type": "wav2vec2"}')
    with pytest.raises(WeightsError, match="Wav2Vec2FeatureExtractor cannot be read from it"):
        encoder_of(tmp_path, Needs("wav2vec2", WIDTH))
