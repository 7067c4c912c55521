"""Windows of film as a large model is told of them, encoded once: latents, sources with other lips, sound, pose.

An autoencoder with a stride in time encodes a window as a whole, so windows are cached and not frames. Training then
needs neither autoencoder nor speech encoder, and any geometry will do.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from unisync import flow
from unisync.audio.mel import RATE
from unisync.errors import OptionError
from unisync.mask import mouth_mask
from unisync.methods.pose import draw_pose
from unisync.mouth import choose_reference, neutralised
from unisync.nets.transformer import Condition
from unisync.training.dataset import Sample
from unisync.training.donors import choose_donors, transplanted
from unisync.training.loop import Batch
from unisync.types import Pixels, Reference, Sound, Window
from unisync.whole import whole

Encode = Callable[[Pixels], Tensor]
"""Canvases uint8 (F, S, S, 3) -> latents (1, C, F', h, w)."""
Tell = Callable[[Window, Tensor, Tensor], Condition]
"""A window with its source's and its pose's latents -> all that a network is told of it."""
Partners = Callable[[Sample], Mapping[int, int]]
"""A sample -> where its windows' pseudo-pairs begin, by the windows' first frames."""
TEXT = "text.pt"
"""The text is the same in all windows and lies beside them."""
TRANSPLANTED = 1
"""Which of a window's sources has another moment's lips."""


def fill_windows(
    samples: Iterable[Sample], out: Path, encode: Encode, tell: Tell, length: int, partners: Partners | None = None
) -> None:
    """Write OUT/KEY-START.pt for every window of `length` frames; what is there already is kept.

    partners: with them, windows have `pairs` too: the latents of their pseudo-pair (1, C, F', h, w), or of none (0, ...).
    """
    out.mkdir(parents=True, exist_ok=True)
    for sample in samples:
        found = partners(sample) if partners else None
        sound = Sound(np.asarray(sample.canvases.samples / 32768, np.float32), RATE)
        for start, goal in goals(sample.key, len(sample.canvases.pixels), out, length):
            if goal.exists():
                continue
            data = encode_window(sample, slice(start, start + length), sound, encode, tell)
            if found is not None:
                data["pairs"] = data["sources"][:0]
                if (begin := found.get(start)) is not None:
                    data["pairs"] = _encoded(sample.canvases.pixels[begin : begin + length], encode)
            if (text := data.pop("text", None)) is not None and not (out / TEXT).exists():
                _save(text, out / TEXT)
            _save(data, goal)


def goals(key: str, frames: int, out: Path, length: int) -> Iterator[tuple[int, Path]]:
    """Yield each window's first frame, and where it lies, of a sample of so many frames."""
    return ((start, out / f"{key}-{start:06d}.pt") for start in range(0, frames - length + 1, length))


@torch.no_grad()
def encode_window(sample: Sample, span: slice, sound: Sound, encode: Encode, tell: Tell) -> dict[str, Tensor]:
    """Return what `Windows` reads, batch dimensions left out. sources: (2, C, F', h, w), with neutral and with other lips."""
    clip = sample.canvases
    pixels, landmarks, seconds = clip.pixels[span], clip.landmarks[span], clip.seconds[span]
    size = pixels.shape[1]
    at = choose_reference(landmarks, size)
    closed = Reference(pixels[at], landmarks[at])
    neutral = neutralised(pixels, landmarks, closed)
    donors = choose_donors(landmarks, size, random.Random(f"{sample.key}{span.start}"))
    other = transplanted(pixels, landmarks, donors, neutral)
    target = encode(pixels)
    sources = [encode(neutral), encode(other)]
    pose = encode(draw_pose(landmarks, size))
    told = tell(Window(span.start, pixels, seconds, landmarks, sound, closed), sources[0], pose)
    masks = torch.from_numpy(np.stack([mouth_mask(points, size) for points in landmarks]))
    temporal = round((len(pixels) - 1) / max(target.shape[2] - 1, 1))
    mask = flow.latent_mask(masks[None], temporal, size // target.shape[-1])[0]
    given = {name: value[0] for name, value in told.tensors.items() if name != "source"}
    found = {**given, "pose": pose[0], "target": target[0], "mask": mask, "sources": torch.cat(sources)}
    return {name: value.cpu() if name == "seconds" else value.half().cpu() for name, value in found.items()}


@torch.no_grad()
def _encoded(pixels: Pixels, encode: Encode) -> Tensor:
    return encode(pixels).half().cpu()


class ByLevel(NamedTuple):
    """Timestep-dependent sampling (OmniSync Eq 3): of a share of the windows the source depends on the noise level.

    above: the highest level (sigma) at which it is another window of the film; above it, it is the pseudo-pair.
    draw: draws a level.
    """

    share: float
    above: float
    draw: Callable[[random.Random], float]


class Windows:
    """Cached windows, drawn at random.

    num_paired: how many have a pseudo-pair; counted where they are drawn by level.
    """

    def __init__(self, folder: Path, by_level: ByLevel | None = None) -> None:
        """Raises OptionError if there are none, or if one that is to be drawn by level was encoded without pseudo-pairs."""
        self.files = sorted(path for path in folder.glob("*.pt") if path.name != TEXT)
        if not self.files:
            raise OptionError(f"{folder}: holds no windows; encode the dataset for this model first")
        text = folder / TEXT
        self.text: Tensor | None = torch.load(text, weights_only=True).float() if text.is_file() else None
        self.by_level = by_level
        self.films: dict[str, list[Path]] = {}
        for path in self.files:
            self.films.setdefault(_film(path), []).append(path)
        self.num_paired = sum(_num_pairs(path) for path in self.files) if by_level else 0

    @property
    def size(self) -> tuple[int, int]:
        """Latent frames of a window, and the side of its latents."""
        data: dict[str, Tensor] = torch.load(self.files[0], weights_only=True, mmap=True)
        return data["target"].shape[1], data["target"].shape[-1]

    def draw(self, num: int, rnd: random.Random, drop_audio: float) -> Batch:
        """Return a batch of `num` windows, each with one of its sources, some without their sound.

        Drawn by level, they have `sigma` (num,) too.
        """
        return self.batch([rnd.choice(self.files) for _ in range(num)], rnd, drop_audio)

    def batch(self, files: Sequence[Path], rnd: random.Random, drop_audio: float = 0.0) -> Batch:
        """Return these windows as a batch."""
        samples = [self._sample(path, rnd) for path in files]
        batch = {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}
        batch["keep_audio"] = torch.tensor([float(rnd.random() >= drop_audio) for _ in samples])
        return batch

    def _sample(self, path: Path, rnd: random.Random) -> dict[str, Tensor]:
        data: dict[str, Tensor] = torch.load(path, weights_only=True, mmap=True)
        sources = data.pop("sources")
        pairs = data.pop("pairs", sources[:0])
        sample = {name: value.float() for name, value in data.items()}
        source: Tensor | None = None
        if self.by_level is not None:
            level = self.by_level.draw(rnd)
            sample["sigma"] = torch.tensor(level)
            if rnd.random() < self.by_level.share:
                other = pairs if level > self.by_level.above else self._elsewhere(path, rnd)
                source = other[0] if len(other) else sources[TRANSPLANTED]
        if source is None:
            source = sources[rnd.randrange(len(sources))]
        sample["source"] = source.float()
        if (beside := sample.get("reference")) is not None and beside.shape == sample["source"].shape:
            sample["reference"] = sample["source"]  # models that look at the whole film look at this one
        return sample if self.text is None else sample | {"text": self.text}

    def _elsewhere(self, path: Path, rnd: random.Random) -> Tensor:
        """Return the film in any other window of a window's sample (1, C, F', h, w), or in none (0,)."""
        others = [each for each in self.films[_film(path)] if each != path]
        if not others:
            return torch.zeros(0)
        data: dict[str, Tensor] = torch.load(rnd.choice(others), weights_only=True, mmap=True)
        return data["target"][None]


def _film(path: Path) -> str:
    """Return the key of the sample that a window is of."""
    return path.stem.rpartition("-")[0]


def _num_pairs(path: Path) -> int:
    """Return whether a window has a pseudo-pair, 1 or 0. Raises OptionError if none was looked for."""
    data: dict[str, Tensor] = torch.load(path, weights_only=True, mmap=True)
    if "pairs" not in data:
        raise OptionError(f"{path}: was encoded without pseudo-pairs; encode the dataset with them, or give paired = 0")
    return len(data["pairs"])


def _save(value: object, goal: Path) -> None:
    with whole(goal) as part:
        torch.save(value, part)
