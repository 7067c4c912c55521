"""Which films a benchmark takes, whose speech they are given, and every figure of a finished film."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from unisync.bench.footage import Footage, pairs
from unisync.bench.judge import LIPS, Judge
from unisync.media import probe
from unisync.metrics.base import Value, ratio
from unisync.metrics.expert import ExpertSync, expert_weights
from unisync.options import DubOptions
from unisync.types import Sound

FILMS = (".mp4", ".mkv", ".mov", ".webm", ".flv")
STILLS = (".png", ".jpg")
SPEECH_SECONDS = 4
"""Shorter films lend nobody their speech."""
BESIDE_SOURCE = ("sharpness", "flicker", "seam", "jitter", "identity_shape", "mouth_likeness")


def judge(made: Footage, source: Footage, spoken: Footage, sound: Sound) -> dict[str, Value]:
    """Return every figure of a finished film by name.

    spoken: the film that its sound is from; "follows" is the correlation with its lips, "leak" that with the source's;
    "sync" is our expert's confidence as a share of its confidence in that film.
    """
    names = (*BESIDE_SOURCE, LIPS, *((ExpertSync.name,) if expert_weights().is_file() else ()))
    figures, _ = Judge(source, sound, "cross", source, spoken)(made, names)
    return figures | {"sync": sync_share(figures.get(ExpertSync.name), spoken, sound)}


def sync_share(confidence: Value | None, spoken: Footage, sound: Sound) -> Value:
    """Return the expert's confidence in a film as a share of its confidence in the film that the sound is from."""
    if confidence is None:
        return f"no weights: {expert_weights().name}"
    if isinstance(confidence, str):
        return confidence
    true = true_confidence(spoken, sound)
    return true if isinstance(true, str) else ratio(confidence, true, "the speech's own film is not in sync")


@cache
def true_confidence(spoken: Footage, sound: Sound) -> Value:
    """Return the expert's confidence in a film with its own sound."""
    expert = ExpertSync()
    for window, _ in pairs(spoken, spoken, sound):
        expert.update(window)
    return expert.compute()[expert.name]


def talking(folder: Path, parts: Sequence[str] = ()) -> list[Path]:
    """Return the folder's films with sound, all or those whose names hold one of the parts."""
    return [p for p in films(folder, parts) if p.suffix.lower() in FILMS and probe(p).has_sound]


def films(folder: Path, parts: Sequence[str] = ()) -> list[Path]:
    """Return the folder's films and stills by name, all or those whose names hold one of the parts."""
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in FILMS + STILLS)
    return [p for p in paths if not parts or any(part in p.name for part in parts)]


def next_speaker(path: Path, speakers: Sequence[Path]) -> Path:
    """Return another film's speech: the next in the ring, so that each voice is used about once."""
    others = [p for p in speakers if p != path]
    return next((p for p in others if p.name > path.name), others[0])


def speakers_of(folder: Path) -> list[Path]:
    """Return the films that are long enough to lend their speech."""
    return [p for p in talking(folder) if float(probe(p).duration) > SPEECH_SECONDS]


def dub_options(pairs: Sequence[str]) -> DubOptions:
    """Return options of dub from NAME=VALUE. Raises OptionError for what dub does not know."""
    return DubOptions.from_dict({name: _typed(value) for name, _, value in (pair.partition("=") for pair in pairs)})


def _typed(value: str) -> str | float | int:
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value
