"""Train the audio encoder by a teacher: it learns the teacher's features and lips on any speech, true lips on the films'.

The teacher's features learn first to tell the films' lips; then the teacher listens once to all the speech there is, and
what it said is kept beside the mel bands as lessons.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.signal import resample_poly
from torch import Tensor, nn

from unisync.audio.mel import BANDS, RATE, log_mel
from unisync.errors import OptionError
from unisync.nets.audio import LIP_PARAMETERS, AudioEncoder
from unisync.training import audio
from unisync.training.audio import AudioRecipe, LessonsRecipe, Utterance
from unisync.training.loop import Batch, Job, Look, Loop, Terms, accelerator
from unisync.training.teacher import Teacher
from unisync.types import Floats, Sound
from unisync.whole import whole

SOUNDS = (".aac", ".flac", ".g722", ".gsm", ".m4a", ".mp3", ".ogg", ".opus", ".wav")
SHORTEST = RATE // 4  # samples; what is shorter is no word
SPEEDS = (17, 18, 19, 21, 22, 23, 24)  # in twentieths: every window is heard at its own speed and at one of these
EDGE = 6  # rows; at a window's ends the teacher has heard one side only
SPREAD_OF = 200  # about so many windows are enough to know how features spread

Corpus = tuple[list[Utterance], list[Utterance]]


class Lessons(NamedTuple):
    """Float16: mel (N, 2R, 80), whitened features (N, R, K) of it, standardised lips (N, R, 6)."""

    mel: Tensor
    features: Tensor
    lips: Tensor


class LipHead(nn.Module):
    """Dilated convolutions, the teacher's features (B, N, C) -> standardised lips (B, N, 6)."""

    def __init__(self, spread: tuple[Tensor, Tensor], width: int, dropout: float, noise: float) -> None:
        super().__init__()
        self.dropout, self.noise = dropout, noise
        self.register_buffer("mean", spread[0].clone())
        self.register_buffer("std", spread[1].clone())
        self.mean: Tensor
        self.std: Tensor
        self.enter = nn.Linear(len(spread[0]), width)
        self.layers = nn.ModuleList([nn.Conv1d(width, width, 5, padding=2 * d, dilation=d) for d in (1, 2, 4)])
        self.lips = nn.Linear(width, len(LIP_PARAMETERS))

    def forward(self, features: Tensor) -> Tensor:
        """Return lips; while it learns, a tenth of the features is blanked in all rows and all are noisy."""
        x = (features - self.mean) / self.std
        if self.training:
            kept = torch.rand(x.shape[0], 1, x.shape[2], device=x.device) > 0.1
            x = x * kept + self.noise * torch.randn_like(x)
        x = F.dropout(F.gelu(self.enter(x)), self.dropout, self.training).transpose(1, 2)
        for layer in self.layers:
            x = x + F.dropout(F.gelu(layer(x)), self.dropout, self.training)
        return self.lips(x.transpose(1, 2))


class Pupil(nn.Module):
    """The encoder, and what only its training needs: the teacher's features told from its own."""

    def __init__(self, encoder: AudioEncoder, components: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.told = nn.Linear(encoder.config.width, components)


@dataclass(frozen=True, eq=False)
class School:
    """One teacher, what it is asked and where its answers are kept. units: mean and deviation of lips."""

    teacher: Teacher
    corpus: Corpus
    units: tuple[Tensor, Tensor]
    recipe: AudioRecipe
    work: Path

    def lessons(self) -> tuple[str, Lessons]:
        """Return a mark of everything they depend on, and the lessons, made if there are none of that mark."""
        sounds = sounds_of(self.recipe)
        mark = self._mark(sounds)
        file = self.work / f"lessons-{mark}.pt"
        if not file.exists():
            heads = self._heads(self.work / f"heads-{mark}")
            if accelerator().is_main_process:
                with whole(file) as part:
                    torch.save(self._taught(heads, sounds)._asdict(), part)
        accelerator().wait_for_everyone()
        return mark, Lessons(**torch.load(file, mmap=True, weights_only=True))  # more of it than of memory is no harm

    def _mark(self, sounds: list[Path]) -> str:
        lessons = self.recipe.lessons
        asked = lessons.layers, lessons.components, lessons.minutes_per_folder, lessons.head
        what = asked, [(str(path), path.stat().st_size) for path in sounds], [u.tolist() for u in self.units]
        return f"{zlib.crc32(repr(what).encode(), zlib.crc32(Path(self.recipe.teacher).read_bytes())):08x}"

    def _heads(self, work: Path) -> list[LipHead]:
        """Return heads that tell the films' lips from the teacher's features, each its best look on held-out clips."""
        train, held = self.corpus
        heard = [torch.from_numpy(self.teacher.hear(u.samples)).half() for u in train]
        questions = [torch.from_numpy(self.teacher.hear(u.samples)) for u in held]
        every = torch.cat(heard[::5]).float()
        spread = every.mean(0), every.std(0) + 1e-3
        recipe = self.recipe.lessons.head
        weights, rows = audio.speaker_weights(train), recipe.rows
        rnd = random.Random()

        def draw() -> Batch:
            batch = []
            for i in rnd.choices(range(len(train)), weights, k=recipe.batch):
                start, truth, valid = audio.draw_window(train[i], rows, self.units, rnd)
                features = heard[i][start : start + rows].float()
                batch.append((F.pad(features, (0, 0, 0, rows - len(features))), truth, valid))
            features, truth, valid = (torch.stack(part) for part in zip(*batch, strict=True))
            return {"features": features, "truth": truth, "valid": valid}

        def loss(head: LipHead, batch: Batch) -> Terms:
            guess = head(batch["features"]).float()
            return {"loss": audio.lips_loss(guess, batch["truth"], batch["valid"], self.recipe.absolute_weight)}

        def look(head: LipHead) -> Look:
            guesses = (head(features[None].to(head.mean.device))[0].cpu() for features in questions)
            return Look({"correlation": audio.median_correlation(guesses, held)})

        heads = []
        for i, width in enumerate(recipe.widths):
            torch.manual_seed(recipe.seed + i)
            head = LipHead(spread, width, recipe.dropout, recipe.noise)
            spec = {"kind": "lip-head", "width": width}
            job = Job(head, draw, loss, spec, rnd, look if held else None, keep_best="correlation" if held else None)
            best = Loop(job, replace(recipe, seed=recipe.seed + i), work / str(i)).run()
            assert isinstance(best, LipHead)
            heads.append(best.eval().cpu())
        return heads

    @torch.no_grad()
    def _taught(self, heads: list[LipHead], sounds: list[Path]) -> Lessons:
        rnd = random.Random(0)
        films = [u.samples for u in self.corpus[0]]
        windows = list(windows_of(sounds, films, self.teacher.samples, self.recipe.lessons, rnd))
        sample = [torch.from_numpy(self.teacher.window(window)) for window in windows[:: len(windows) // SPREAD_OF + 1]]
        mean, whitening = whitened(torch.cat(sample), self.recipe.lessons.components)
        num, rows = 2 * len(windows), self.teacher.rows
        shapes = (2 * rows, BANDS), (rows, whitening.shape[1]), (rows, len(LIP_PARAMETERS))
        made = Lessons(*(torch.empty(num, *shape, dtype=torch.float16) for shape in shapes))
        for i in range(num):
            window = windows[i // 2]
            samples = at_speed(window, rnd.choice(SPEEDS)) if i % 2 else window
            features = torch.from_numpy(self.teacher.window(samples))
            made.mel[i] = log_mel(Sound(samples, RATE))[: 2 * rows]
            made.features[i] = (features - mean) @ whitening
            made.lips[i] = torch.stack([head(features[None])[0] for head in heads]).mean(0)
        return made


def train_taught(
    net: AudioEncoder, corpus: Corpus, work: Path, recipe: AudioRecipe, spec: dict[str, Any]
) -> AudioEncoder:
    """Train by the recipe's teacher and return the averaged encoder, of its best look if clips are held out."""
    train, held = corpus
    if not train:
        raise OptionError("the dataset has no clips whose lips move to a sound: a teacher's features cannot be read")
    teacher, units, rnd = teacher_of(recipe), audio.units_of(net), random.Random()
    last = teacher.rows - recipe.rows - EDGE
    mark, lessons = School(teacher, corpus, units, recipe, work).lessons()
    weights, asked = audio.speaker_weights(train), recipe.lessons

    def draw() -> Batch:
        mels, features, lips = [], [], []
        for _ in range(asked.batch):
            i, start = rnd.randrange(len(lessons.mel)), rnd.randint(EDGE, last)
            rows = slice(start, start + recipe.rows)
            mels.append(audio.augmented(lessons.mel[i, 2 * rows.start : 2 * rows.stop].float(), rnd))
            features.append(lessons.features[i, rows].float())
            lips.append(lessons.lips[i, rows].float())
        clips = rnd.choices(train, weights, k=recipe.batch)
        parts = zip(*(audio.draw_sample(u, recipe.rows, units, rnd) for u in clips), strict=True)
        mel, truth, valid = (torch.stack(part) for part in parts)
        taught = {"features": torch.stack(features), "lips": torch.stack(lips)}
        return taught | {"mel": torch.cat([torch.stack(mels), mel]), "truth": truth, "valid": valid}

    torch.manual_seed(recipe.seed)
    pupil = Pupil(net, lessons.features.shape[-1])
    job = Job(
        network=pupil,
        draw=draw,
        loss=lambda network, batch: taught_loss(network, batch, recipe),
        spec=spec | {"lessons": mark},
        rnd=rnd,
        look=(lambda network: Look({"correlation": audio.correlation(network.encoder, held)})) if held else None,
        keep_best="correlation" if held else None,
    )
    best = Loop(job, recipe, work / "audio").run()
    assert isinstance(best, Pupil)
    return best.encoder


def teacher_of(recipe: AudioRecipe) -> Teacher:
    """Return the recipe's teacher. Raises OptionError if it is none, or hears less than a sample at once."""
    teacher = Teacher(Path(recipe.teacher), recipe.lessons.layers)
    if recipe.rows > teacher.rows - 2 * EDGE:
        raise OptionError(f"rows must be at most {teacher.rows - 2 * EDGE} with this teacher, not {recipe.rows}")
    return teacher


def taught_loss(pupil: Pupil, batch: Batch, recipe: AudioRecipe) -> Terms:
    """Return the weighted losses: the teacher's features and lips on the first windows, true lips on the others."""
    asked, num = recipe.lessons, len(batch["features"])
    hidden, lips = pupil.encoder(batch["mel"])
    told, lips = pupil.told(hidden[:num]).float(), lips.float()
    truth = audio.lips_loss(lips[num:], batch["truth"], batch["valid"], recipe.absolute_weight)
    return {
        "features": asked.features_weight * F.smooth_l1_loss(told, batch["features"]),
        "lips": asked.lips_weight * (lips[:num] - batch["lips"]).abs().mean(),
        "truth": asked.truth_weight * truth,
    }


def whitened(features: Tensor, components: int) -> tuple[Tensor, Tensor]:
    """Return mean (C,) and matrix (C, K): K principal components of features (N, C), each with unit variance."""
    mean = features.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov((features - mean).double().T))
    return mean, (vectors / values.clamp_min(1e-4).sqrt()).flip(1)[:, :components].float()


def sounds_of(recipe: AudioRecipe) -> list[Path]:
    """Return the sound files of the recipe's folder. Raises OptionError if there are none."""
    if not recipe.speech:
        return []
    found = sorted(path for path in Path(recipe.speech).rglob("*") if path.suffix.lower() in SOUNDS and path.is_file())
    if not found:
        raise OptionError(f"{recipe.speech}: there is no sound file in it ({' '.join(SOUNDS)}); name another folder")
    return found


def windows_of(
    sounds: list[Path], films: list[NDArray[np.int16]], size: int, recipe: LessonsRecipe, rnd: random.Random
) -> Iterator[Floats]:
    """Yield windows (size,) of speech, each folder's files and the films' sounds in a drawn order, one after another."""
    from unisync.media.sound import read_sound  # whoever learns without a teacher needs no FFmpeg

    folders: dict[Path, list[Path]] = {}
    for path in sounds:
        folders.setdefault(path.parent, []).append(path)
    limit = int(recipe.minutes_per_folder * 60 * RATE)
    for paths in folders.values():
        read = (read_sound(path, RATE).samples for path in rnd.sample(paths, len(paths)))
        yield from _cut(read, size, limit, rnd)
    of_films = (samples.astype(np.float32) / np.float32(32768) for samples in rnd.sample(films, len(films)))
    yield from _cut(of_films, size, sum(map(len, films)), rnd)


def _cut(sounds: Iterator[Floats], size: int, limit: int, rnd: random.Random) -> Iterator[Floats]:
    """Yield windows of sounds with short silences between; the last one only if it is half full."""
    rest, num = np.zeros(0, np.float32), 0
    for samples in sounds:
        if len(samples) < SHORTEST:
            continue
        rest = np.concatenate([rest, samples, np.zeros(rnd.randint(RATE // 20, RATE // 3), np.float32)])
        while len(rest) >= size and num < limit:
            yield rest[:size]
            rest, num = rest[size:], num + size
        if num >= limit:
            return
    if len(rest) >= size // 2:
        yield np.pad(rest, (0, size - len(rest)))


def at_speed(window: Floats, twentieths: int) -> Floats:
    """Return a window as fast and as high as `twentieths` says, repeated or cut to its length."""
    samples = resample_poly(window, 20, twentieths)
    samples = np.pad(samples, (0, max(0, len(window) - len(samples))), mode="wrap")[: len(window)]
    return np.clip(samples, -1, 1).astype(np.float32)
