"""Train the transformer in cached latents: mask-free editing from neutralised, transplanted or masked sources (Eq 3)."""

from __future__ import annotations

import copy
import json
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from unisync import flow
from unisync.audio.mel import RATE, SILENCE, log_mel
from unisync.audio.moments import at_moments, token_moments
from unisync.nets.audio import AudioEncoder
from unisync.nets.transformer import Condition, Transformer, TransformerConfig
from unisync.types import Sound


@dataclass(frozen=True)
class TransformerRecipe:
    """How the embedded transformer is trained. Probabilities are per sample."""

    minutes: float = 60.0
    batch: int = 8
    frames: int = 8
    learning_rate: float = 6e-4
    warmup: int = 300
    weight_decay: float = 0.02
    ema: float = 0.999
    sigma_mean: float = 1.2
    """sigma = sigmoid(normal(sigma_mean, 1)): the noisy end, where the mouth takes shape."""
    outside_weight: float = 0.1
    """Weight of the loss outside the mouth."""
    lips_weight: float = 3.0
    """Weight added where the lips lie, in the aligned canvas about always the same place (`LIPS`)."""
    min_sigma: float = 1.0
    """Below it a data-predicting network's error is not blown up to velocity's; 1: the error of the data itself."""
    weight_floor: float = 1.0
    """Added to omega, which is near 0 at the noisy end, where progressive start begins and the mouth takes shape."""
    transplant: float = 0.2
    masked: float = 0.12
    silent: float = 0.08
    drop_audio: float = 0.15
    drop_lips: float = 0.3
    drop_both: float = 0.05
    lip_noise: float = 0.12
    stale: float = 0.6
    """How often what lies under the noise is partly the source, as it is on the way from a progressive start: else the
    network learns to trust the old lips it finds there."""
    shared_noise: float = 0.25
    """How often the noise is partly the same in all frames of a window."""
    seed: int = 0


LIPS = (0.44, 0.74, 0.30, 0.70)
"""Top, bottom, left, right of the lips in an aligned canvas, as shares of its side."""


@dataclass(frozen=True, eq=False)
class Clip:
    """One film's latents (T, C, h, w): as it is, with neutral lips, of its pose; (T, h, w) mouth mask; (T, 6) lips."""

    latents: Tensor
    neutral: Tensor
    pose: Tensor
    mask: Tensor
    lips: Tensor
    seconds: Tensor
    reference: int
    features: Tensor | None
    speaker: str


def load_clips(folder: Path, audio: AudioEncoder) -> list[Clip]:
    """Return the clips of a folder that `unisync.train.latents` filled, lips standardised, speech encoded by `audio`."""
    clips = []
    for path in sorted(folder.glob("*.pt")):
        data = torch.load(path, weights_only=True, mmap=True)
        features = None
        if data["speech"]:
            features = encode_speech(audio, Sound(data["pcm"].float().numpy() / 32768, RATE))
        lips = (data["lips"] - audio.lip_mean) / audio.lip_std
        clips.append(
            Clip(
                latents=data["latents"],
                neutral=data["neutral"],
                pose=data["pose"],
                mask=data["mask"],
                lips=lips,
                seconds=data["seconds"],
                reference=data["reference"],
                features=features,
                speaker=data["speaker"],
            )
        )
    return clips


@torch.no_grad()
def encode_speech(audio: AudioEncoder, sound: Sound) -> Tensor:
    """Return features (N, D) at the encoder's rate."""
    features: Tensor = audio.eval()(log_mel(sound)[None])[0][0]
    return features


class Sampler:
    """Draws training samples; speakers with much film do not drown the others."""

    def __init__(
        self, clips: list[Clip], recipe: TransformerRecipe, config: TransformerConfig, silence: Tensor
    ) -> None:
        self.recipe, self.config, self.silence = recipe, config, silence
        self.clips = [clip for clip in clips if len(clip.latents) >= 2 * recipe.frames]
        total: dict[str, int] = {}
        for clip in self.clips:
            total[clip.speaker] = total.get(clip.speaker, 0) + len(clip.latents)
        self.weights = [len(clip.latents) / total[clip.speaker] ** 0.6 for clip in self.clips]
        self.random = random.Random(recipe.seed)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        while True:
            chosen = self.random.choices(self.clips, self.weights, k=self.recipe.batch)
            samples = [self.sample(clip) for clip in chosen]
            yield {name: torch.stack([s[name] for s in samples]) for name in samples[0]}

    def sample(self, clip: Clip) -> dict[str, Tensor]:
        """Return one sample: target, source, pose (C, F, h, w), mask (1, F, h, w), lips, audio, keeps (F,) and seconds."""
        recipe, rnd = self.recipe, self.random
        length = len(clip.latents)
        stride = 2 if length >= 4 * recipe.frames and rnd.random() < 0.2 else 1
        start = rnd.randrange(length - recipe.frames * stride + 1)
        span = slice(start, start + recipe.frames * stride, stride)
        target, neutral = clip.latents[span].float(), clip.neutral[span].float()
        mask = clip.mask[span, None].float()
        lips, seconds = clip.lips[span].clone(), clip.seconds[span].float()
        silent = rnd.random() < recipe.silent
        if silent:
            lips[:] = clip.lips[clip.reference]
            target = neutral
        kind = rnd.random()
        if kind < recipe.masked:
            source = target * (1 - mask)
        elif kind < recipe.masked + recipe.transplant:
            other = clip.latents[rnd.randrange(length)].float()
            source = target * (1 - mask) + other * mask
        else:
            source = neutral
        tokens = self.config.audio_tokens
        if clip.features is None or silent:
            audio = self.silence.expand(recipe.frames, tokens, -1)
        else:
            audio = at_moments(clip.features, 50.0, token_moments(seconds, tokens))
        hears, sees = self.keeps(clip.features is not None or silent)
        return {
            "target": target.transpose(0, 1),
            "source": source.transpose(0, 1),
            "pose": clip.pose[span].float().transpose(0, 1),
            "mask": mask.transpose(0, 1),
            "lips": lips + recipe.lip_noise * torch.randn(lips.shape),
            "audio": audio,
            "seconds": seconds - seconds[0],
            "keep_audio": torch.tensor(hears),
            "keep_lips": torch.tensor(sees),
        }

    def keeps(self, has_sound: bool) -> tuple[float, float]:
        """Return 1 or 0 for: the model is told the audio, the lip parameters."""
        recipe, rnd = self.recipe, self.random
        if rnd.random() < recipe.drop_both:
            return 0.0, 0.0
        if not has_sound:
            return 0.0, 1.0
        hears = rnd.random() >= recipe.drop_audio
        return float(hears), float(not hears or rnd.random() >= recipe.drop_lips)


def draw_noise(shape: torch.Size, shared: float) -> Tensor:
    """Return unit noise (B, C, F, h, w), in `shared` of the clips partly the same over the frames (a random share each)."""
    share = torch.rand(shape[0], 1, 1, 1, 1) * (torch.rand(shape[0], 1, 1, 1, 1) < shared)
    common = torch.randn(shape[0], shape[1], 1, *shape[3:])
    return share.sqrt() * common + (1 - share).sqrt() * torch.randn(shape)


def stale(target: Tensor, source: Tensor, level: Tensor, often: float) -> Tensor:
    """Return targets (B, C, F, h, w), in `often` of the clips mixed with a random share of their sources.

    The share is at most the noise level: near data, nothing of the start is left.
    """
    share = torch.rand_like(level) * level * (torch.rand_like(level) < often)
    return target + share * (source - target)


def loss_of(network: Transformer, batch: dict[str, Tensor], recipe: TransformerRecipe) -> Tensor:
    """Return the omega-weighted velocity loss (Eq 3), the mouth weighted over the rest."""
    target, source = batch["target"], batch["source"]
    sigma = torch.sigmoid(torch.randn(len(target)) + recipe.sigma_mean)
    noise = draw_noise(target.shape, recipe.shared_noise)
    level = sigma.view(-1, 1, 1, 1, 1)
    z = flow.noised(stale(target, source, level, recipe.stale), noise, level)
    names = ("source", "seconds", "pose", "audio", "lips", "keep_audio", "keep_lips")
    condition = Condition(**{name: batch[name] for name in names})
    with torch.autocast("cpu", torch.bfloat16):
        out = network(z, sigma, condition)
    # v - v^ = (data^ - data) / sigma for a network that predicts data.
    error = (source + out.float() - target) / level.clamp_min(recipe.min_sigma)
    place = recipe.outside_weight + batch["mask"] + recipe.lips_weight * _lips(target)
    weight = place * (flow.loss_weight(level) + recipe.weight_floor)
    return (error.square() * weight).mean()


def _lips(like: Tensor) -> Tensor:
    """Return 1 where the lips lie, (h, w), else 0."""
    rows, columns = like.shape[-2:]
    top, bottom, left, right = LIPS
    place = torch.zeros(rows, columns)
    place[round(top * rows) : round(bottom * rows), round(left * columns) : round(right * columns)] = 1
    return place


def train(
    clips: list[Clip], audio: AudioEncoder, out: Path, recipe: TransformerRecipe, config: TransformerConfig
) -> None:
    """Train for recipe.minutes and write the averaged weights to `out` (a checkpoint every thousand steps, resumed from)."""
    torch.manual_seed(recipe.seed)
    silence = audio.eval()(torch.full((1, 200, audio.config.bands), SILENCE))[0][0, 50].detach()
    network = Transformer(config)
    average = copy.deepcopy(network)
    optimizer = torch.optim.AdamW(
        network.parameters(), recipe.learning_rate, betas=(0.9, 0.95), weight_decay=recipe.weight_decay
    )
    step, spent, mean = 0, 0.0, 0.0
    if out.exists():
        state = torch.load(out, weights_only=True)
        average.load_state_dict(state["average"])
        network.load_state_dict(state.get("network", state["average"]))
        if "optimizer" in state:
            optimizer.load_state_dict(state["optimizer"])
            step, spent = state["step"], state["spent"]
    print(json.dumps({"recipe": asdict(recipe), "clips": len(clips)}), flush=True)
    begun = time.monotonic() - spent
    torch.manual_seed(recipe.seed + step)  # a resumed run draws other samples than it began with
    for batch in Sampler(clips, replace(recipe, seed=recipe.seed + step), config, silence):
        share = (time.monotonic() - begun) / (60 * recipe.minutes)
        if share >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * min(1, (step + 1) / recipe.warmup) * max(0.03, 1 - share)
        loss = loss_of(network, batch, recipe)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        keep = min(recipe.ema, (step + 1) / (step + 100))
        with torch.no_grad():
            for slow, fast in zip(average.parameters(), network.parameters(), strict=True):
                slow.lerp_(fast, 1 - keep)
        mean = 0.98 * mean + 0.02 * loss.item() if step else loss.item()
        step += 1
        if step % 100 == 0:
            print(
                json.dumps({"step": step, "loss": round(mean, 5), "seconds": round(time.monotonic() - begun)}),
                flush=True,
            )
        if step % 1000 == 0:
            _save(out, average, network, optimizer, step, time.monotonic() - begun)
    _save(out, average, network, optimizer, step, time.monotonic() - begun)


def _save(
    out: Path, average: Transformer, network: Transformer, optimizer: torch.optim.Optimizer, step: int, spent: float
) -> None:
    part = out.with_suffix(".part")
    state = {"average": average.state_dict(), "network": network.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({**state, "step": step, "spent": spent}, part)
    part.replace(out)
