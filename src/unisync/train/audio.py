"""Train the embedded audio encoder: from augmented mel bands to the lips that made the sound."""

from __future__ import annotations

import copy
import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unisync.audio.mel import RATE, SILENCE, log_mel
from unisync.mouth import lip_parameters
from unisync.nets.audio import AudioConfig, AudioEncoder
from unisync.train.canvases import load_canvases
from unisync.types import Floats, Sound


@dataclass(frozen=True)
class AudioRecipe:
    """How the audio encoder is trained. It is at its best early: the weights of the best held-out check are kept."""

    steps: int = 4000
    check_every: int = 250
    batch: int = 32
    rows: int = 96
    """Feature rows (50 a second) per sample."""
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    ema: float = 0.995
    absolute_weight: float = 0.2
    """Weight of the absolute error beside the error after each clip's own mean is taken out."""
    held_out: int = 8
    """One speaker in so many is kept for the check."""
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Utterance:
    """mel: float32 (2N, 80).  lips: float32 (N, 6) at 50 a second."""

    speaker: str
    mel: Tensor
    lips: Tensor


def train_audio(canvases: Path, out: Path, recipe: AudioRecipe, config: AudioConfig) -> float:
    """Train, write the best weights, and return their median correlation of lip opening over held-out speakers."""
    torch.manual_seed(recipe.seed)
    rnd = random.Random(recipe.seed)
    train, held = split(load_utterances(canvases), recipe)
    net = AudioEncoder(config)
    lips = torch.cat([u.lips for u in train])
    net.lip_mean.copy_(lips.mean(0))
    net.lip_mean[:2] = 0  # the openings are absolute: 0 is closed
    net.lip_std.copy_(lips.std(0))
    average = copy.deepcopy(net)
    optimizer = torch.optim.AdamW(net.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    weights = _weights(train)
    best = -1.0
    for step in range(recipe.steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * min(1, step / 100) * max(0.05, 1 - step / recipe.steps)
        batch = [_sample(u, recipe.rows, net, rnd) for u in rnd.choices(train, weights, k=recipe.batch)]
        mel, truth, valid = (torch.stack(part) for part in zip(*batch, strict=True))
        loss = audio_loss(net, mel, truth, valid, recipe)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(average.parameters(), net.parameters(), strict=True):
                slow.lerp_(fast, 1 - min(recipe.ema, step / (step + 20)))
        if step % recipe.check_every == 0:
            found = correlation(average, held)
            print(json.dumps({"step": step, "loss": round(loss.item(), 4), "correlation": round(found, 3)}), flush=True)
            if step and found > best:
                best = found
                torch.save(average.state_dict(), out)
    return best


def audio_loss(net: AudioEncoder, mel: Tensor, truth: Tensor, valid: Tensor, recipe: AudioRecipe) -> Tensor:
    """Return the L1 error of standardised lips, mostly after each clip's mean is taken out."""
    with torch.autocast("cpu", torch.bfloat16):
        guess = net(mel)[1]
    guess = guess.float()
    num = valid.sum(1, keepdim=True)

    def centred(a: Tensor) -> Tensor:
        return a - (a * valid).sum(1, keepdim=True) / num

    moving = ((centred(guess) - centred(truth)).abs() * valid).sum()
    absolute = ((guess - truth).abs() * valid).sum()
    return (moving + recipe.absolute_weight * absolute) / valid.sum() / truth.shape[-1]


def load_utterances(canvases: Path, min_motion: float = 0.006) -> list[Utterance]:
    """Return the clips with speech whose lips move."""
    found = []
    for path in sorted(canvases.glob("*.npz")):
        clip = load_canvases(path)
        lips = lip_parameters(clip.landmarks, clip.pixels.shape[1])
        if len(clip.samples) < 8000 or lips[:, 0].std() < min_motion:
            continue
        mel = log_mel(Sound(clip.samples.astype(np.float32) / np.float32(32768), RATE))
        rows = min(int(clip.seconds[-1] * 50) + 1, len(mel) // 2)
        if rows >= 40:
            table = _resampled(lips, clip.seconds, rows)
            found.append(Utterance(clip.speaker, mel[: 2 * rows], torch.from_numpy(table)))
    return found


def split(utterances: list[Utterance], recipe: AudioRecipe) -> tuple[list[Utterance], list[Utterance]]:
    """Return training and held-out utterances, no speaker in both."""
    speakers = sorted({u.speaker for u in utterances})
    random.Random(recipe.seed + 1).shuffle(speakers)
    held = set(speakers[: max(1, len(speakers) // recipe.held_out)])
    long = [u for u in utterances if u.speaker in held and len(u.mel) >= 300]
    return [u for u in utterances if u.speaker not in held], long


@torch.no_grad()
def correlation(net: AudioEncoder, held: list[Utterance]) -> float:
    """Return the median Pearson correlation of predicted and true lip opening."""
    net.eval()
    values = []
    for u in held:
        guess, truth = net(u.mel[None])[1][0, : len(u.lips), 0], u.lips[:, 0]
        values.append(float(torch.corrcoef(torch.stack([guess, truth]))[0, 1]))
    net.train()
    return float(np.nanmedian(values))


@torch.no_grad()
def lip_gain(net: AudioEncoder, held: list[Utterance]) -> float:
    """Return how much narrower than real lips the prediction moves: the ratio of the spreads of lip opening."""
    net.eval()
    true = np.median([float((u.lips[:, 0] / net.lip_std[0]).std()) for u in held])
    guessed = np.median([float(net(u.mel[None])[1][0, :, 0].std()) for u in held])
    return float(true / guessed)


def _resampled(lips: Floats, seconds: np.ndarray, rows: int) -> Floats:
    moments = np.arange(rows) / 50
    return np.stack([np.interp(moments, seconds, column) for column in lips.T], axis=1).astype(np.float32)


def _weights(utterances: list[Utterance]) -> list[float]:
    total: dict[str, int] = {}
    for u in utterances:
        total[u.speaker] = total.get(u.speaker, 0) + len(u.lips)
    return [len(u.lips) / total[u.speaker] ** 0.5 for u in utterances]


def _sample(u: Utterance, rows: int, net: AudioEncoder, rnd: random.Random) -> tuple[Tensor, Tensor, Tensor]:
    """Return augmented mel (2 rows, 80), standardised lips (rows, 6) and validity (rows, 1)."""
    num = len(u.lips)
    start = rnd.randint(0, max(0, num - rows))
    mel, lips = u.mel[2 * start : 2 * (start + rows)], u.lips[start : start + rows]
    missing = rows - len(lips)
    mel = F.pad(mel, (0, 0, 0, 2 * missing), value=SILENCE)
    valid = torch.cat([torch.ones(len(lips), 1), torch.zeros(missing, 1)])
    lips = F.pad((lips - net.lip_mean) / net.lip_std, (0, 0, 0, missing))
    return augmented(mel, rnd), lips, valid


def augmented(mel: Tensor, rnd: random.Random) -> Tensor:
    """Return mel (N, 80) with another gain, tilt, room noise and vocal tract, and with bands and moments blanked."""
    bands = mel.shape[1]
    mel = mel + rnd.gauss(0, 0.25)
    if rnd.random() < 0.5:
        mel = mel + torch.linspace(-1, 1, bands) * rnd.gauss(0, 0.3)
    if rnd.random() < 0.5:  # noise adds in power, and mel values are logarithms of it divided by 5
        noise = rnd.uniform(-2.5, -0.3) + 0.045 * torch.randn(bands).cumsum(0) + 0.2 * torch.randn_like(mel)
        mel = torch.logaddexp(mel * 5, noise * 5) / 5
    if rnd.random() < 0.6:
        place = (torch.arange(bands) * rnd.uniform(0.85, 1.18)).clamp(0, bands - 1)
        low = place.floor().long()
        share = place - low
        mel = mel[:, low] * (1 - share) + mel[:, (low + 1).clamp_max(bands - 1)] * share
    mel = mel.clone()
    mean = mel.mean()
    for _ in range(2):
        band = rnd.randint(0, bands - 4)
        mel[:, band : band + rnd.randint(0, 14)] = mean
    if rnd.random() < 0.5:
        moment = rnd.randint(0, len(mel) - 16)
        mel[moment : moment + rnd.randint(0, 14)] = mean
    return mel
