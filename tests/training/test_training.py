"""What the stages learn from: latents, samples, noise and losses."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_recipes import SMALL as NETWORKS
from test_recipes import talk

from faces import frames, lay
from unisync import flow
from unisync.errors import OptionError, UnisyncError
from unisync.face.detect import FaceModels
from unisync.media import drawn, write_film
from unisync.mouth import STILL, lip_parameters
from unisync.nets.audio import AudioConfig, AudioEncoder
from unisync.nets.expert import Expert, ExpertConfig, sync_loss
from unisync.nets.transformer import Transformer
from unisync.nets.vae import FaceVae
from unisync.training.audio import AudioRecipe, audio_loss, augmented, load_utterances
from unisync.training.canvases import cut_canvases
from unisync.training.clips import Sampler, load_clips
from unisync.training.dataset import Canvases, Sample
from unisync.training.distil import DistilRecipe, distil_loss, teach
from unisync.training.donors import FARTHEST, choose_donors, lent, transplanted
from unisync.training.latents import encode_clip, encode_samples
from unisync.training.painting import velocity_of
from unisync.training.pairs import load_pairs, mine
from unisync.training.redub import make_redubs
from unisync.training.terms import ExtraLosses, ExtraTerms, PatchCritic, hinge
from unisync.training.transformer import (
    TransformerRecipe,
    condition_of,
    draw_level,
    draw_noise,
    guess_of,
    loss_of,
    stale,
)
from unisync.training.vae import VaeRecipe, vae_loss

NUM = 40
SPREAD = np.array([0.03, 0.03, 0.03, 0.02, 0.03, 0.007], np.float32)
VAE, SMALL = NETWORKS.vae, NETWORKS.transformer


@pytest.fixture(scope="module")
def canvases(tmp_path_factory: pytest.TempPathFactory) -> Canvases:
    film = talk(tmp_path_factory.mktemp("train") / "talk.mp4", 1.4, 1.0, NUM)
    return cut_canvases(film, 64, FaceModels(), "ann")


def test_canvases_are_what_inference_sees(canvases: Canvases) -> None:
    assert canvases.pixels.shape == (NUM, 64, 64, 3) and canvases.landmarks.shape == (NUM, 468, 2)
    eyes = canvases.landmarks[:, [33, 133, 362, 263]].mean(1)
    assert np.allclose(eyes, (31.5, 0.12 * 64 - 0.5), atol=2.5)
    assert abs(len(canvases.samples) / 16000 - NUM / 25) < 0.02 and np.abs(canvases.samples).max() > 1000


def test_a_film_without_a_face_is_refused(tmp_path: Path) -> None:
    film = tmp_path / "none.mp4"
    write_film(frames([lay([])] * 15), film, drawn("x", 480, 360, 25, 15))
    with pytest.raises(UnisyncError, match="no face"):
        cut_canvases(film, 64, FaceModels(), "x")


def test_latents_hold_the_film_with_neutral_and_other_lips_and_its_pose(canvases: Canvases) -> None:
    data = encode_clip(canvases, FaceVae(VAE), SPREAD, random.Random(0))
    for name in ("latents", "neutral", "other", "lent", "pose"):
        assert data[name].shape == (NUM, 4, 8, 8)  # type: ignore[attr-defined]
    mask = data["mask"]
    assert isinstance(mask, torch.Tensor) and 0.1 < mask.float().mean() < 0.9
    assert not mask[:, 0].any() and mask[:, 4, 3:5].all()


def test_donors_are_near_in_pose_and_far_in_lips() -> None:
    """A head that turns twice, once with its mouth shut and once open: each takes the other's mouth at the same turn."""
    generator = np.random.default_rng(0)
    face = generator.uniform(20, 44, (468, 2)).astype(np.float32)
    turn = np.tile(np.linspace(-3, 3, 32), 2)
    marks = np.tile(face, (64, 1, 1))
    marks[:, list(STILL), 0] += turn[:, None]
    marks[32:, [14, 87, 317], 1] += 8
    donors = choose_donors(marks, 64, random.Random(0))
    assert donors.shape == (64,) and (donors >= 0).mean() > 0.8 and (donors < 64).all()
    assert (np.abs(turn[donors] - turn)[donors >= 0] <= FARTHEST * 64).all()
    assert ((donors < 32) != (np.arange(64) < 32))[donors >= 0].mean() > 0.8  # the other mouth
    assert np.abs(turn[donors] - turn).mean() < 0.35 * np.abs(turn[generator.permutation(64)] - turn).mean()
    runs = donors.reshape(8, 8)
    assert (np.diff(runs[(runs >= 0).all(1)], axis=1) == 1).all()  # they move as lips do
    lips = lip_parameters(marks, 64)
    assert np.abs(lips[donors] - lips)[:, 0].mean() > 0.03


def test_a_transplant_changes_the_mouth_alone(canvases: Canvases) -> None:
    donors = np.roll(np.arange(NUM), 20)
    pixels = canvases.pixels.copy()
    pixels[20:, 40:52, 22:42] = (200, 30, 30)
    made = transplanted(pixels, canvases.landmarks, donors, pixels)
    assert np.array_equal(made[:, :12], pixels[:, :12])
    red = made[..., 0].astype(int) - made[..., 1]
    assert red[:20, 42:50, 26:38].mean() > red[20:, 42:50, 26:38].mean() + 40
    donors[5] = -1
    assert np.array_equal(transplanted(pixels, canvases.landmarks, donors, 255 - pixels)[5], 255 - pixels[5])
    assert choose_donors(canvases.landmarks[:1], 64, random.Random(0)).tolist() == [-1]


def test_lent_mouths_are_the_other_halfs(canvases: Canvases) -> None:
    """Each half gets the other's colour in its mouth, and lips nearer to its own than any frame's at random."""
    pixels = canvases.pixels.copy()
    pixels[20:, 36:56, 18:46] = (200, 30, 30)
    made = lent(pixels, canvases.landmarks, SPREAD, random.Random(0))
    assert np.array_equal(made[:, :12], pixels[:, :12])
    red = made[..., 0].astype(int) - made[..., 1]
    assert red[:20, 42:50, 26:38].mean() > red[20:, 42:50, 26:38].mean() + 40
    one = lent(pixels[:1], canvases.landmarks[:1], SPREAD, random.Random(0))
    assert np.array_equal(one, pixels[:1])  # no other half: as it came


@pytest.fixture(scope="module")
def latents(canvases: Canvases, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("latents")
    encode_samples([Sample(key, canvases, {}) for key in ("a", "b")], folder, FaceVae(VAE), SPREAD)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    encode_samples([Sample("a", canvases, {})], folder, FaceVae(VAE), SPREAD)
    assert before == {path: path.stat().st_mtime_ns for path in folder.iterdir()}  # what is there is kept
    return folder


def sampler(
    latents: Path, redubs: Path | None = None, hear: bool = False, **changes: float
) -> tuple[Sampler, TransformerRecipe]:
    torch.manual_seed(0)
    audio = AudioEncoder(AudioConfig(width=16))
    recipe = replace(TransformerRecipe(batch=4, frames=5), **changes)  # type: ignore[arg-type]
    return Sampler(load_clips(latents, audio, redubs, hear), recipe, SMALL, torch.zeros(16)), recipe


def inside_of(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return batch["mask"].expand_as(batch["target"]) > 0


def test_sources_carry_other_lips_than_targets(latents: Path, tmp_path: Path) -> None:
    draws, _ = sampler(latents, transplant=0.0, lent=0.0, masked=1.0, silent=0.0)
    batch = draws.draw()
    inside = inside_of(batch)
    assert not batch["source"][inside].any()
    assert torch.equal(batch["source"][~inside], batch["target"][~inside])
    draws, _ = sampler(latents, transplant=0.0, lent=1.0, masked=0.0, silent=0.0)
    draws.clips = [replace(clip, lent=torch.full_like(clip.lent, 7)) for clip in draws.clips]
    batch = draws.draw()
    assert (batch["source"][inside_of(batch)] == 7).all()
    assert torch.equal(batch["source"][~inside_of(batch)], batch["target"][~inside_of(batch)])
    draws, _ = sampler(latents, transplant=0.0, lent=0.0, masked=0.0, silent=1.0)
    batch = draws.draw()
    assert torch.equal(batch["source"], batch["target"])  # in silence a closed mouth stays as it is
    network = Transformer(SMALL)
    make_redubs(draws.clips, draws.clips, network, 5, tmp_path)
    draws, _ = sampler(latents, tmp_path, transplant=0.0, lent=0.0, masked=0.0, silent=0.0, redub=1.0)
    for clip in draws.clips:
        assert clip.redub is not None and clip.redub.shape == clip.latents.shape
        outside = ~clip.mask[:, None].expand_as(clip.redub)
        # A new network gives its source back, which is the neutral film.
        assert torch.allclose(clip.redub.float()[outside], clip.neutral.float()[outside], atol=0.05)
    batch = draws.draw()
    inside = inside_of(batch)
    assert torch.equal(batch["source"][~inside], batch["target"][~inside])
    with pytest.raises(OptionError, match="two clips"):
        make_redubs(draws.clips, draws.clips[:1], network, 5, tmp_path)


def test_pseudo_pairs_are_near_in_pose_and_far_in_lips() -> None:
    num, frames = 60, 4
    turn = torch.cat([torch.zeros(30), torch.full((30,), 0.5)])  # two poses
    still = turn[:, None, None] * torch.ones(num, 5, 2)
    lips = torch.zeros(num, 6)
    lips[15:30, 0] = 2.0  # the first pose shuts its lips, then opens them; the second keeps them shut
    found = mine(still, lips, frames, near=0.02, far=1.0)
    assert len(found)
    for target, source in found.tolist():
        assert turn[target] == turn[source] == turn[target + frames - 1] == turn[source + frames - 1] == 0
        opening = (lips[target : target + frames, 0] - lips[source : source + frames, 0]).abs().mean()
        assert opening >= 1.0
    assert len(mine(still, lips, frames, near=0.02, far=3.0)) == 0
    assert len(mine(still[:4], lips[:4], frames, near=0.02, far=0.0)) == 0
    still[0] += 0.01 * torch.arange(5)[:, None]  # a pose that is off by .0204 on average of squares
    assert (
        0 not in mine(still, lips, 1, near=0.02, far=1.0)[:, 0] and 0 in mine(still, lips, 1, near=0.05, far=1.0)[:, 0]
    )


def test_pairs_are_mined_once(latents: Path, tmp_path: Path) -> None:
    spread = torch.from_numpy(SPREAD)
    pairs = load_pairs(latents, tmp_path, spread, 5, 1.0, 0.0)
    (file,) = tmp_path.iterdir()
    assert set(pairs) == {"a", "b"} and all(len(found) for found in pairs.values())
    torch.save({"a": pairs["b"], "b": pairs["a"][:0]}, file)
    assert not len(load_pairs(latents, tmp_path, spread, 5, 1.0, 0.0)["b"])
    assert len(load_pairs(latents, tmp_path, spread, 5, 0.9, 0.0)["b"])  # other bounds, other pairs
    old = tmp_path / "old"
    old.mkdir()
    data = torch.load(latents / "a.pt", weights_only=True)
    del data["still"]
    torch.save(data, old / "a.pt")
    with pytest.raises(OptionError, match="earlier version"):
        load_pairs(old, tmp_path, spread, 5, 1.0, 0.0)


def test_sources_depend_on_the_noise_level(latents: Path) -> None:
    """OmniSync's Eq 3: pairs above the threshold, any stretch of the film below it."""
    audio = AudioEncoder(AudioConfig(width=16))
    pairs = {"a": torch.tensor([[2, 20]]), "b": torch.zeros(0, 2, dtype=torch.int64)}
    clips = load_clips(latents, audio, pairs=pairs)
    recipe = TransformerRecipe(batch=60, frames=5, paired=1.0, silent=0.0)
    clips = [replace(clip, other=torch.full_like(clip.other, 7)) for clip in clips]
    for level in (0.95, 0.5):
        draws = Sampler(clips, recipe, SMALL, torch.zeros(16), lambda _rnd, level=level: level)
        batch = draws.draw()
        assert (batch["sigma"] == level).all()
        sources, targets = batch["source"].transpose(1, 2), batch["target"].transpose(1, 2)
        paired = (sources == clips[0].latents[20:25]).flatten(1).all(1)
        transplanted = (sources == 7).flatten(1).all(1)
        if level > recipe.paired_above:
            assert paired.any() and transplanted.any() and (paired | transplanted).all()
            assert (targets[paired] == clips[0].latents[2:7]).all()
        else:
            assert not transplanted.any() and float(paired.float().mean()) < 0.2
            film = torch.cat([clip.latents for clip in clips]).float().flatten(1)
            assert torch.cdist(sources.flatten(0, 1).flatten(1)[:20], film).amin(1).max() < 1e-2
    guess = guess_of(Transformer(SMALL), batch, recipe)
    assert (guess.level == 0.5).all()
    with pytest.raises(OptionError, match="teacher's levels"):
        DistilRecipe(paired=0.5)


def test_levels_are_drawn_as_without_pairs() -> None:
    rnd, recipe = random.Random(0), TransformerRecipe(sigma_mean=0.5)
    levels = torch.tensor([draw_level(recipe, rnd) for _ in range(4000)])
    logits = torch.logit(levels)
    assert abs(float(logits.mean()) - 0.5) < 0.05 and abs(float(logits.std()) - 1) < 0.05


def test_too_short_clips_are_refused(latents: Path) -> None:
    with pytest.raises(OptionError, match="no clip of 82 frames"):
        sampler(latents, frames=41)


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
    batch = draws.draw() | {"mask": torch.zeros(4, 1, 5, 8, 8)}
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


def test_a_student_is_shown_where_its_teacher_comes_to(latents: Path) -> None:
    draws, _ = sampler(latents)
    recipe = DistilRecipe(batch=4, frames=5, teacher_steps=4, student_steps=2)
    batch = draws.draw()
    torch.manual_seed(1)
    teacher = Transformer(SMALL)
    torch.nn.init.normal_(teacher.head.head.weight, 0, 0.2)
    torch.manual_seed(2)
    leg = teach(teacher, batch, recipe)
    condition = condition_of(batch)
    levels = flow.schedule(4, 1.0, 0.9)
    for i, sigma in enumerate(leg.sigma.tolist()):
        begin = next(k for k in (0, 2) if abs(levels[k] - sigma) < 1e-6)
        z = leg.z
        for k in (begin, begin + 1):
            z = flow.euler(z, velocity_of(teacher, z, levels[k], condition), levels[k], levels[k + 1])
        student = flow.euler(leg.z, (leg.z - leg.data) / sigma, sigma, levels[begin + 2])
        assert torch.allclose(student[i], z[i], atol=1e-4)
    assert len(set(leg.sigma.tolist())) == 2
    torch.manual_seed(2)
    assert distil_loss(teacher, teacher, batch, recipe).item() > 0
    with pytest.raises(OptionError, match="multiple"):
        DistilRecipe(teacher_steps=6, student_steps=4)


def test_extra_terms_vanish_for_the_truth_and_reach_the_network(latents: Path) -> None:
    torch.manual_seed(0)
    expert = Expert(ExpertConfig())
    weights = ExtraTerms(pixel=1.0, gradient=1.0, temporal=1.0, sync=1.0, critic=0.1, pixel_frames=3)
    extra = ExtraLosses(weights, FaceVae(VAE), expert)
    draws, recipe = sampler(latents, hear=True, silent=0.0)
    batch = next(b for b in draws if b["has_mel"].all() and (b["seconds"].diff() < 0.05).all())
    truth = extra(batch["target"].clone(), batch)
    assert all(float(truth[name]) == 0 for name in ("pixel", "gradient", "temporal"))
    network = Transformer(SMALL)
    terms = extra(guess_of(network, batch, recipe).data, batch)
    assert set(terms) == {"pixel", "gradient", "temporal", "sync", "fooled", "critic"}
    for name in ("pixel", "gradient", "temporal", "sync", "fooled"):
        network.zero_grad()
        terms[name].backward(retain_graph=True)
        assert network.head.head.weight.grad is not None and network.head.head.weight.grad.any(), name
    with pytest.raises(OptionError, match="expert"):
        ExtraLosses(ExtraTerms(sync=1.0), FaceVae(VAE), None)


def test_the_sync_term_decodes_all_that_the_expert_sees(latents: Path) -> None:
    class Enlarged(FaceVae):
        def decode(self, z: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.interpolate(z[:, :3].tanh(), scale_factor=8.0)

    torch.manual_seed(0)
    vae, expert = Enlarged(VAE), Expert(ExpertConfig())
    extra = ExtraLosses(ExtraTerms(sync=1.0, sync_clips=1), vae, expert)
    draws, _ = sampler(latents, hear=True, silent=0.0)
    batch = next(b for b in draws if b["has_mel"].all() and (b["seconds"].diff() < 0.05).all())
    data = batch["target"].repeat(1, 1, 1, 2, 2)
    whole = (vae.decode(data[0].transpose(0, 1))[None] + 1) / 2
    expected = sync_loss(expert, whole, batch["mel"][:1])
    assert torch.allclose(extra(data, batch)["sync"], expected, atol=1e-6)


def test_the_critic_and_the_network_do_not_push_each_other() -> None:
    torch.manual_seed(0)
    critic, made, real = PatchCritic(8), torch.randn(2, 3, 32, 32, requires_grad=True), torch.randn(2, 3, 32, 32)
    terms = hinge(critic, made, real, 1.0)
    terms["fooled"].backward(retain_graph=True)
    assert made.grad is not None and made.grad.any()
    assert all(p.grad is None for p in critic.parameters())
    made.grad = None
    terms["critic"].backward()
    assert made.grad is None and all(p.grad is not None for p in critic.parameters())


def test_utterances_need_moving_lips(canvases: Canvases) -> None:
    assert load_utterances([Sample("a", canvases, {})]) == []  # a still picture moved about does not speak
    (spoken,) = load_utterances([Sample("a", canvases, {})], min_motion=0.0)
    assert spoken.mel.shape == (2 * len(spoken.lips), 80) and spoken.lips.shape[1] == 6


def test_the_autoencoders_loss_falls(canvases: Canvases) -> None:
    torch.manual_seed(0)
    x = torch.from_numpy(canvases.pixels[:4]).permute(0, 3, 1, 2).float() / 127.5 - 1
    vae = FaceVae(VAE)
    optimizer = torch.optim.AdamW(vae.parameters(), 3e-3)
    losses = []
    for _ in range(40):
        losses.append(vae_loss(vae, x, VaeRecipe()))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1].item() < 0.7 * losses[0].item()


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
