"""Train the embedded audio encoder: from augmented mel bands to the lips that made the sound."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from unisync.audio.mel import RATE, SILENCE, log_mel
from unisync.errors import OptionError
from unisync.mouth import lip_parameters
from unisync.nets.audio import AudioEncoder
from unisync.training.dataset import Sample
from unisync.training.loop import Batch, Job, Look, Loop, LoopRecipe, Terms
from unisync.types import Floats, Sound


@dataclass(frozen=True, kw_only=True)
class HeadRecipe(LoopRecipe):
    """How the teacher's features learn to tell lips; each head is at its best early, and that look of it is kept."""

    steps: int = 750
    look_every: int = 250
    batch: int = 32
    rows: int = 96
    widths: tuple[int, ...] = (192, 256)
    """Width of each head; what they tell is averaged."""
    dropout: float = 0.2
    noise: float = 0.3
    """Spread of the noise on the features, which are brought to unit variance."""
    learning_rate: float = 7e-4
    lowest_rate: float = 0.05
    warmup: int = 100
    weight_decay: float = 0.1
    ema: float = 0.995
    ema_delay: int = 20


@dataclass(frozen=True, kw_only=True)
class LessonsRecipe:
    """What a teacher passes on: its hidden layers, whitened, and the lips that heads over them tell."""

    layers: tuple[int, ...] = (0, 1)
    """Which of the teacher's layers are heard, from 0."""
    components: int = 256
    """Principal components of the layers that are learnt."""
    minutes_per_folder: float = 18.0
    """The sounds of one folder are taken for one voice, and no more than this of it is heard."""
    batch: int = 20
    """Taught windows in a batch, beside the clips whose true lips are known."""
    features_weight: float = 1.0
    lips_weight: float = 0.7
    truth_weight: float = 0.5
    """Weight of the clips' true lips."""
    head: HeadRecipe = field(default_factory=HeadRecipe)


@dataclass(frozen=True, kw_only=True)
class AudioRecipe(LoopRecipe):
    """How the audio encoder is trained. It is at its best early: the weights of the best held-out look are kept."""

    steps: int = 4000
    look_every: int = 250
    batch: int = 32
    rows: int = 96
    """Feature rows (50 a second) per sample."""
    warmup: int = 100
    lowest_rate: float = 0.05
    weight_decay: float = 0.1
    ema: float = 0.995
    ema_delay: int = 20
    absolute_weight: float = 0.2
    """Weight of the absolute error beside the error after each clip's own mean is taken out."""
    min_motion: float = 0.006
    """Clips whose lip opening spreads less than this, in canvas sides, do not speak."""
    teacher: str = ""
    """An ONNX file of a Whisper-like encoder to learn from as well; only the training needs it."""
    speech: str = ""
    """A folder of more sound files in which someone speaks, for the teacher to comment on."""
    lessons: LessonsRecipe = field(default_factory=LessonsRecipe)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.speech and not self.teacher:
            raise OptionError("speech without a face is learnt from by a teacher alone: name the teacher's file")


@dataclass(frozen=True, eq=False)
class Utterance:
    """mel: float32 (2N, 80).  lips: float32 (N, 6) at 50 a second.  samples: int16 at 16 kHz, or empty."""

    speaker: str
    mel: Tensor
    lips: Tensor
    samples: NDArray[np.int16]


def train_audio(
    net: AudioEncoder,
    utterances: tuple[list[Utterance], list[Utterance]],
    folder: Path,
    recipe: AudioRecipe,
    spec: dict[str, Any],
) -> AudioEncoder:
    """Train on the first list, and return the averaged encoder of the look with the best correlation over the second."""
    train, held = utterances
    if not train:
        raise OptionError("the dataset has no clips whose lips move to a sound: the audio encoder cannot be trained")
    rnd = random.Random()
    weights, units = speaker_weights(train), units_of(net)

    def draw() -> Batch:
        batch = [draw_sample(u, recipe.rows, units, rnd) for u in rnd.choices(train, weights, k=recipe.batch)]
        mel, truth, valid = (torch.stack(part) for part in zip(*batch, strict=True))
        return {"mel": mel, "truth": truth, "valid": valid}

    def loss(network: AudioEncoder, batch: Batch) -> Terms:
        return {"loss": audio_loss(network, batch["mel"], batch["truth"], batch["valid"], recipe)}

    def look(network: AudioEncoder) -> Look:
        return Look({"correlation": correlation(network, held)})

    job = Job(net, draw, loss, spec, rnd, look if held else None, keep_best="correlation" if held else None)
    best = Loop(job, recipe, folder).run()
    assert isinstance(best, AudioEncoder)
    return best


def measure_lips(net: AudioEncoder, train: list[Utterance]) -> None:
    """Set the units of a new encoder's lips."""
    if train:
        lips = torch.cat([u.lips for u in train])
        net.lip_mean.copy_(lips.mean(0))
        net.lip_mean[:2] = 0  # the openings are absolute: 0 is closed
        net.lip_std.copy_(lips.std(0))


def audio_loss(net: AudioEncoder, mel: Tensor, truth: Tensor, valid: Tensor, recipe: AudioRecipe) -> Tensor:
    """Return the loss of an encoder's lips."""
    return lips_loss(net(mel)[1].float(), truth, valid, recipe.absolute_weight)


def lips_loss(guess: Tensor, truth: Tensor, valid: Tensor, absolute_weight: float) -> Tensor:
    """Return the L1 error of standardised lips, mostly after each clip's mean is taken out."""
    num = valid.sum(1, keepdim=True)

    def centred(a: Tensor) -> Tensor:
        return a - (a * valid).sum(1, keepdim=True) / num

    moving = ((centred(guess) - centred(truth)).abs() * valid).sum()
    absolute = ((guess - truth).abs() * valid).sum()
    return (moving + absolute_weight * absolute) / valid.sum() / truth.shape[-1]


def load_utterances(samples: Iterable[Sample], min_motion: float = AudioRecipe.min_motion) -> list[Utterance]:
    """Return the samples with speech whose lips move."""
    found = []
    for sample in samples:
        clip = sample.canvases
        lips = lip_parameters(clip.landmarks, clip.pixels.shape[1])
        if len(clip.samples) < 8000 or lips[:, 0].std() < min_motion:
            continue
        mel = log_mel(Sound(clip.samples.astype(np.float32) / np.float32(32768), RATE))
        rows = min(int(clip.seconds[-1] * 50) + 1, len(mel) // 2)
        if rows >= 40:
            table = _resampled(lips, clip.seconds, rows)
            found.append(Utterance(clip.speaker, mel[: 2 * rows], torch.from_numpy(table), clip.samples))
    return found


@torch.no_grad()
def correlation(net: AudioEncoder, held: list[Utterance]) -> float:
    """Return the median Pearson correlation of predicted and true lip opening."""
    net.eval()
    value = median_correlation((_lips_of(net, u) for u in held), held)
    net.train()
    return value


def median_correlation(guesses: Iterable[Tensor], held: list[Utterance]) -> float:
    """Return the median Pearson correlation of lip opening; guesses: (N or more, 6) for each utterance."""
    pairs = [torch.stack([guess[: len(u.lips), 0], u.lips[:, 0]]) for guess, u in zip(guesses, held, strict=True)]
    return float(np.nanmedian([float(torch.corrcoef(pair)[0, 1]) for pair in pairs]))


@torch.no_grad()
def lip_gain(net: AudioEncoder, held: list[Utterance]) -> float:
    """Return how much narrower than real lips the prediction moves: the ratio of the spreads of lip opening."""
    net.eval()
    true = np.median([float((u.lips[:, 0] / net.lip_std[0].cpu()).std()) for u in held])
    guessed = np.median([float(_lips_of(net, u)[:, 0].std()) for u in held])
    return float(true / guessed)


def _lips_of(net: AudioEncoder, u: Utterance) -> Tensor:
    """Return standardised lips (N, 6) that the encoder hears."""
    lips: Tensor = net(u.mel[None].to(net.lip_mean.device))[1][0].cpu()
    return lips


def _resampled(lips: Floats, seconds: np.ndarray, rows: int) -> Floats:
    moments = np.arange(rows) / 50
    return np.stack([np.interp(moments, seconds, column) for column in lips.T], axis=1).astype(np.float32)


def units_of(net: AudioEncoder) -> tuple[Tensor, Tensor]:
    """Return mean and deviation (6,) of the lips that an encoder tells."""
    return net.lip_mean.cpu().clone(), net.lip_std.cpu().clone()


def speaker_weights(utterances: list[Utterance]) -> list[float]:
    """Return how often each utterance is drawn: of a speaker with four times the speech, twice as often."""
    total: dict[str, int] = {}
    for u in utterances:
        total[u.speaker] = total.get(u.speaker, 0) + len(u.lips)
    return [len(u.lips) / total[u.speaker] ** 0.5 for u in utterances]


def draw_window(
    u: Utterance, rows: int, units: tuple[Tensor, Tensor], rnd: random.Random
) -> tuple[int, Tensor, Tensor]:
    """Return the row where a window begins, its standardised lips (rows, 6) and validity (rows, 1)."""
    start = rnd.randint(0, max(0, len(u.lips) - rows))
    lips = u.lips[start : start + rows]
    missing = rows - len(lips)
    valid = torch.cat([torch.ones(len(lips), 1), torch.zeros(missing, 1)])
    mean, std = units
    return start, F.pad((lips - mean) / std, (0, 0, 0, missing)), valid


def draw_sample(
    u: Utterance, rows: int, units: tuple[Tensor, Tensor], rnd: random.Random
) -> tuple[Tensor, Tensor, Tensor]:
    """Return augmented mel (2 rows, 80), standardised lips (rows, 6) and validity (rows, 1) of a window."""
    start, lips, valid = draw_window(u, rows, units, rnd)
    mel = u.mel[2 * start : 2 * (start + rows)]
    return augmented(F.pad(mel, (0, 0, 0, 2 * rows - len(mel)), value=SILENCE), rnd), lips, valid


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
