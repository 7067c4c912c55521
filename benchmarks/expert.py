"""What the sync expert can tell: python benchmarks/expert.py DATASET [CLIPS] [--weights FILE].

DATASET's held-out speakers: how often a stretch of lips is nearer to its own sound than to the same sound some frames
away, and how often a shift made on purpose is found again. CLIPS, a folder of talking films: offset, distance and
confidence of the largest face with its own sound, and confidence with the other films' sounds.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tables import header, line
from unisync.audio.mel import RATE, log_mel
from unisync.errors import UnisyncError
from unisync.face.detect import FaceModels
from unisync.metrics.expert import MIN_PAIRS, REACH, Sync, distances, load_expert, measure_sync, summary
from unisync.nets.expert import RATE as FPS
from unisync.nets.expert import Expert
from unisync.training.canvases import cut_canvases
from unisync.training.dataset import Canvases, read_samples
from unisync.types import Sound

LENGTHS = {"0.2 s": 1, "1 s": 25, "2 s": 50}
"""Windows that are averaged."""
MOST_SHIFT = 7
SECONDS = (2, 4)
"""Least length of the clips whose shift is looked for."""
SIZE = 128
FILMS = (".mp4", ".mkv", ".mov", ".webm", ".flv")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("clips", type=Path, nargs="?")
    parser.add_argument("--weights", type=Path)
    given = parser.parse_args()
    expert = load_expert(given.weights)
    print_held_out(expert, given.dataset)
    if given.clips is not None:
        print_clips(expert, given.clips)


def print_held_out(expert: Expert, dataset: Path) -> None:
    """Print what the expert can tell of held-out speakers."""
    drawn = np.random.default_rng(0)
    right: dict[tuple[str, str], list[NDArray[np.bool_]]] = {}
    moved: dict[int, list[tuple[int, int]]] = {least: [] for least in SECONDS}
    speakers, total = set(), 0.0
    for sample in read_samples(dataset, "held"):
        clip = sample.canvases
        if len(clip.samples) < RATE:
            continue
        speakers.add(clip.speaker)
        total += float(clip.seconds[-1])
        sound = sound_of(clip)
        table = distances(expert, clip.pixels, clip.seconds, log_mel(sound))
        for (how, name), found in comparisons(table, drawn):
            right.setdefault((how, name), []).append(found)
        own = summary(table).offset if np.isfinite(table).sum(1).min() >= MIN_PAIRS else None
        shift = int(drawn.integers(-MOST_SHIFT, MOST_SHIFT + 1))
        for least in SECONDS:
            if clip.seconds[-1] >= least and own is not None:
                late = measure_sync(clip.pixels, clip.seconds - shift / FPS, sound, expert)  # lips before their sound
                moved[least].append((late.offset - shift, late.offset - shift - own))
    print(f"held out: {len(speakers)} speakers, {total / 60:.1f} min\n")
    print("| true against | " + " | ".join(LENGTHS) + " |\n|---|" + "---|" * len(LENGTHS))
    for how in dict.fromkeys(how for how, _ in right):
        print(f"| {how} | " + " | ".join(f"{np.concatenate(right[how, n]).mean():.3f}" for n in LENGTHS) + " |")
    print(
        "\n| clips of | number | within ±1 of the shift made | within ±1 of that and the clip's own offset |\n|---|---|---|---|"
    )
    for least, errors in moved.items():
        away = np.abs(np.array(errors))
        print(f"| {least} s and more | {len(away)} | {(away[:, 0] <= 1).mean():.3f} | {(away[:, 1] <= 1).mean():.3f} |")


def comparisons(
    table: NDArray[np.float32], drawn: np.random.Generator
) -> Iterator[tuple[tuple[str, str], NDArray[np.bool_]]]:
    """Yield (against what, averaged length) and, for each stretch, whether its own sound is the nearer."""
    for how, shifts in (("3 frames", (-3, 3)), ("5 frames", (-5, 5)), ("3 to 15 frames", (0,))):
        for shift in shifts:
            shift = shift or int(drawn.choice([-1, 1]) * drawn.integers(3, REACH + 1))
            gap = table[REACH + shift] - table[REACH]
            gap = gap[np.isfinite(gap)]
            for length, num in LENGTHS.items():
                if len(gap) >= num:
                    yield (how, length), np.convolve(gap, np.ones(num), "valid") > 0


def print_clips(expert: Expert, folder: Path) -> None:
    """Print each film's sync with its own sound and its confidence with the others'."""
    models = FaceModels()
    clips: dict[str, Canvases] = {}
    for path in sorted(p for p in folder.iterdir() if p.suffix in FILMS):
        try:
            clips[path.stem] = cut_canvases(path, SIZE, models, path.stem)
        except UnisyncError as error:
            print(f"{path.name}: {error}")
    print("\n" + header(("film", "seconds", "offset", "distance", "confidence", "with others' sound: median", "most")))
    for name, clip in clips.items():
        others = [found for other in clips if other != name and (found := sync_of(expert, clip, clips[other]))]
        own = sync_of(expert, clip, clip)
        if own is None:
            print(line((name, f"{clip.seconds[-1]:.1f}", "too short or no sound")))
            continue
        foreign = np.array([found.confidence for found in others])
        figures = (own.distance, own.confidence, np.median(foreign), foreign.max())
        print(line((name, f"{clip.seconds[-1]:.1f}", f"{own.offset:+d}", *(f"{value:.3f}" for value in figures))))


def sync_of(expert: Expert, clip: Canvases, heard: Canvases) -> Sync | None:
    """Return the sync of one film's lips and another's sound over what they have in common."""
    if len(heard.samples) < RATE:
        return None
    length = min(len(heard.samples) / RATE, float(clip.seconds[-1]) + 1 / FPS)
    kept = clip.seconds < length
    try:
        return measure_sync(clip.pixels[kept], clip.seconds[kept], sound_of(heard), expert)
    except UnisyncError:
        return None


def sound_of(clip: Canvases) -> Sound:
    """Return a clip's sound."""
    return Sound(clip.samples.astype(np.float32) / np.float32(32768), RATE)


def share(found: NDArray[np.bool_]) -> str:
    """Return the share of what is true, with three decimals."""
    return f"{found.mean():.3f}"


if __name__ == "__main__":
    main()
