"""The sync expert's training: its loss, its draws, films moved into sync, and giving up at chance level."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from coded import CodedExpert
from unisync.errors import UnisyncError
from unisync.metrics.expert import load_expert
from unisync.nets.expert import Expert, ExpertConfig
from unisync.training.dataset import Canvases, DatasetWriter, pack
from unisync.training.expert import ChanceWatch, ExpertRecipe, contrast, fit, train_expert, two_way
from unisync.training.lateness import Lateness, lateness_of, mended, moved
from unisync.training.mouths import Draw, Sampler, Utterance, augmented_mouths, centred, utterance_of

SMALL = ExpertConfig(visual=(8, 16, 16, 16), audio=32, embedding=16, dropout=0.0)
QUICK = ExpertRecipe(minutes=5, steps=60, batch=8, frames=16, learning_rate=5e-3, warmup=5, ema=0.8, look_every=1000)


def utterance(seed: int, speaker: str, frames: int = 40, late: int = 0) -> Utterance:
    """Return a mouth that opens as loud as the sound is, `late` frames later."""
    generator = torch.Generator().manual_seed(seed)
    code = torch.rand(frames + 20, generator=generator)
    place = torch.arange(10, 10 + frames)
    row = torch.linspace(-1, 1, 60)[None, :, None]
    dark = (row.abs() < 0.1 + 0.6 * code[place][:, None, None]).float().expand(-1, -1, 80)
    mel = code[place - late].repeat_interleave(4)[:, None] * torch.linspace(0.5, 2, 80)
    mouths = (200 - 150 * dark + 10 * torch.rand(dark.shape, generator=generator)).to(torch.uint8)
    return Utterance(f"{speaker}-{seed}", speaker, mouths, mel, code[place][:, None].repeat(1, 6))


def bright(seed: int, speaker: str, late: int = 0) -> Utterance:
    """Return what `CodedExpert` understands: all of the mouth as bright as the sound is loud."""
    u = utterance(seed, speaker, 60, late)
    return replace(u, mouths=(u.lips[:, :1, None] * 200).expand(-1, 60, 80).round().to(torch.uint8))


def test_contrast_is_ln_of_the_choices_for_a_guess_and_nothing_for_certainty() -> None:
    moment = torch.arange(20)
    away = (moment[:, None] - moment).abs()
    near = (away <= 2) & (away > 0)
    guess = contrast(torch.zeros(3, 20, 20), near).item()
    choices = 20 - near.sum(1)
    assert guess == pytest.approx(choices.float().log().mean().item(), abs=1e-5)
    assert contrast(torch.eye(20)[None] * 50, near).item() < 1e-6
    blind = torch.eye(20)[None] * 5
    blind[:, near] = 100.0  # what is near may look as right as it likes
    assert contrast(blind, near).item() == pytest.approx(contrast(torch.eye(20)[None] * 5, near).item())


def test_training_at_chance_level_stops_with_advice() -> None:
    watch = ChanceWatch(math.log(2), 50)
    for _ in range(49):
        watch.see(0.693)
    with pytest.raises(UnisyncError, match=r"in sync.*learning rate.*batch.*normalised"):
        watch.see(0.693)
    learning = ChanceWatch(math.log(2), 50)
    for step in range(200):
        learning.see(0.69 * 0.99**step)
    with pytest.raises(UnisyncError, match="lower the learning rate"):
        learning.see(math.nan)


def test_sound_that_has_nothing_to_do_with_the_lips_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    false = [replace(utterance(i, f"s{i}"), mel=utterance(i + 50, "x").mel) for i in range(20)]
    recipe = replace(QUICK, steps=100, stuck_after=30)
    with pytest.raises(UnisyncError, match="chance level"):
        fit(false, false[:2], tmp_path, recipe, Expert(SMALL))
    capsys.readouterr()


def test_it_learns_what_belongs_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, held = ([utterance(i, f"s{i}") for i in part] for part in (range(20), range(20, 26)))
    torch.manual_seed(0)
    expert = fit(train, held, tmp_path, QUICK, Expert(SMALL))
    found = two_way(expert, held)
    assert found["two_way_1"] > 0.8 and found["two_way_25"] > 0.95
    assert not expert.training
    assert '"held/two_way_25"' in capsys.readouterr().out


def test_a_late_sound_is_found_and_mended() -> None:
    on_time = [bright(i, f"s{i % 3}") for i in range(9)]
    off = [bright(i, "late", 2) for i in range(20, 23)] + [bright(i, "early", -3) for i in range(30, 33)]
    other = [replace(bright(i, "other"), mel=bright(i + 9, "x").mel) for i in range(40, 43)]
    few = [bright(50, "few", 4)]
    lateness = lateness_of(on_time + off + other + few, CodedExpert())
    assert lateness["late"].frames == pytest.approx(2, abs=0.25) and lateness["late"].known
    assert lateness["early"].frames == pytest.approx(-3, abs=0.25)
    assert not lateness["few"].known
    kept = mended(off + few, lateness, 24)
    assert [u.key for u in kept] == [u.key for u in off + few]
    for u, before in zip(kept, off + few, strict=True):
        code = u.mel[::4, 0] / 0.5
        if u.speaker != "few":
            assert torch.allclose(code, u.lips[:, 0], atol=1e-5) and 56 < len(u) < 60
        else:
            assert u is before
    assert {u.speaker for u in mended(off, lateness, 58)} == {"late"}  # what is cut below the least length goes
    assert mended(other, {"other": Lateness(0.0, 0.0, 200)}, 24) == []
    assert mended(other, {"other": Lateness(9.0, 0.5, 200)}, 24) == []


def test_sound_moves_by_less_than_a_frame() -> None:
    u = bright(0, "a")
    earlier = moved(u, 0.5)
    assert torch.equal(earlier.mel[: 4 * len(earlier)], u.mel[2 : 2 + 4 * len(earlier)]) and len(earlier) == 59
    later = moved(u, -0.5)
    assert torch.equal(later.mel, u.mel[2 : 2 + 4 * len(later)]) and torch.equal(later.lips, u.lips[1:])


def test_who_talks_much_is_drawn_less_than_their_share() -> None:
    talker = [utterance(i, "talker") for i in range(16)]
    sampler = Sampler([*talker, utterance(90, "rare")], Draw(batch=4, frames=16), SMALL)
    weights = torch.tensor(sampler.weights)
    assert (weights[:16].sum() / weights[16]).item() == pytest.approx(4)  # sixteen times the time, four times as often
    batch = sampler.draw()
    assert (
        batch["mouths"].shape == (4, 16, 48, 64)
        and batch["mel"].shape == (4, 64, 80)
        and batch["lips"].shape == (4, 16, 6)
    )


def test_augmentation_treats_a_clip_as_one_camera_would() -> None:
    torch.manual_seed(0)
    still = utterance(0, "a").mouths[:1].repeat(12, 1, 1)
    made = augmented_mouths(still[None].repeat(10, 1, 1, 1), SMALL)
    assert made.shape == (10, 12, 48, 64) and made.min() >= 0 and made.max() <= 1
    plain = centred(still[:1], SMALL)
    within = (made[:, 1:] - made[:, :-1]).abs().mean()
    between = (made[1:] - made[:-1]).abs().mean()
    assert between > 2 * within and (made - plain).abs().mean() > within


def clip(rate: float, speaker: str) -> Canvases:
    seconds = np.arange(round(2 * rate)) / rate
    pixels = np.zeros((len(seconds), 64, 64, 3), np.uint8)
    pixels[:, 40:50, 20:44] = (seconds * 100)[:, None, None, None]
    landmarks = np.random.default_rng(0).uniform(10, 50, (len(seconds), 468, 2)).astype(np.float32)
    samples = np.random.default_rng(1).normal(0, 3000, 32000).astype(np.int16)
    return Canvases(pixels, landmarks, seconds, samples, speaker)


@pytest.mark.parametrize("rate", [25.0, 30000 / 1001])
def test_films_come_to_25_frames_a_second_by_time(rate: float) -> None:
    u = utterance_of("a", clip(rate, "a"), ExpertConfig())
    assert len(u) in (49, 50) and u.mouths.shape[1:] == (60, 80) and u.mel.shape == (4 * len(u), 80)
    rising = u.mouths[:, 30, 40].float().diff()
    assert rising.mean().item() == pytest.approx(4, abs=0.1) and rising.max() <= 5


def test_from_a_dataset_to_a_weights_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = tmp_path / "data", tmp_path / "expert.safetensors"
    data.mkdir()
    with DatasetWriter(data, {}) as writer:
        writer.add("one", pack(clip(25, "ann")), "train", "ann", {})
    with pytest.raises(UnisyncError, match="0 held out"):
        train_expert(data, tmp_path / "work", out, QUICK, SMALL)
    with DatasetWriter(data, {}) as writer:
        writer.add("one", pack(clip(25, "ann")), "train", "ann", {})
        writer.add("two", pack(clip(30, "bob")), "held", "bob", {})
    train_expert(data, tmp_path / "work", out, replace(QUICK, steps=2), SMALL)
    assert load_expert(out).config == SMALL and not list(tmp_path.glob("*.part"))
    train_expert(data, tmp_path / "more", out, replace(QUICK, steps=1, earlier=str(out)), SMALL)
    assert '"kept": 1' in capsys.readouterr().out
