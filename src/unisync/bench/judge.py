"""Every figure of one finished film."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from unisync.bench.footage import SILENCE, Footage, look, pairs, show
from unisync.bench.suite import Protocol
from unisync.media import extend, probe, read_sound
from unisync.metrics.base import Metric, Value
from unisync.metrics.landmarks import LipCorrelation, opening
from unisync.metrics.learned import Learned
from unisync.registry import load, names
from unisync.types import Sound, Window

POOLED = ("fid", "fvd", "fvd_rgb_imagenet")
"""Distances between distributions: of all clips of a method together."""
SAYING = ("ssim", "psnr", "lmd_mesh", "mouth_likeness")
"""Held against a film of the same face saying the same; there is one under self, and where a clip names it."""
OF_SILENCE = ("silence_share", "lip_leak")
OF_SOUND = ("expert_confidence", "lse_c_tracked", "lse_c_frame")
OF_MOTION = ("flicker", "jitter_truth", "leak", "lip_leak", "lip_leak_source", "shut_share", "silence_share")
"""Nothing of a still: its lips do not move, and what a mesh sees of them trembling is noise."""
LIPS = "lip_correlation"
"""Figured twice: with the lips of the speech's own film (follows) and with the source's old ones (leak)."""
Curves = dict[str, list[float] | None]


class Judge:
    """Judges made films beside one source, under one protocol.

    source, truth, spoken: looked at.  sound: what is heard in the made films.
    """

    def __init__(
        self, source: Footage, sound: Sound, protocol: Protocol, truth: Footage | None, spoken: Footage | None
    ) -> None:
        self.source, self.sound, self.protocol, self.truth, self.spoken = source, sound, protocol, truth, spoken

    def __call__(self, made: Footage, metrics: Sequence[str]) -> tuple[dict[str, Value], Curves]:
        """Return the figures by name, or why there is none, and the lips' openings over time. metrics: by name."""
        figures: dict[str, Value] = {}
        plain: dict[str, Metric] = {}
        for name in metrics:
            metric = load("metric", name)()
            if isinstance(metric, Learned):
                if name not in POOLED and self.suits(name):
                    if metric.network is not None:
                        show(metric, made, self.source, self.sound)
                    figures |= metric.compute()
            elif name != LIPS and self.suits(name):
                plain[name] = metric
        against_truth = [plain.pop(name) for name in SAYING if name in plain]
        follows, leak = LipCorrelation(), LipCorrelation()
        curves = _Curves(self.spoken)
        for window, was in pairs(made, self.source, self.sound):
            for metric in plain.values():
                metric.update(window, was)
            leak.update(window, was)
            lips = self.spoken.around(window.seconds) if self.spoken else None
            if lips is not None:
                follows.update(window, lips)
            curves.add(window, was, lips)
        for window, true in pairs(made, self.truth, self.sound) if self.truth and against_truth else ():
            for metric in against_truth:
                metric.update(window, true)
        for metric in (*plain.values(), *(against_truth if self.truth else ())):
            figures |= metric.compute()
        if LIPS in metrics:
            figures |= self.lips(follows, leak)
        if self.source.film.still:
            figures |= {name: "a still" for name in OF_MOTION if name in figures}
        return dict(sorted(figures.items())), curves.told(self.sound)

    def suits(self, name: str) -> bool:
        """Return whether a metric says anything under this protocol."""
        if name in SAYING:
            return self.truth is not None
        if name in OF_SILENCE:
            return self.protocol == "silent"
        return name not in OF_SOUND or self.protocol != "silent"

    def lips(self, follows: LipCorrelation, leak: LipCorrelation) -> dict[str, Value]:
        """Return whose lips the made ones follow."""
        told: dict[str, Value] = {}
        if self.spoken is not None:
            own = follows.compute()
            told |= {name.replace(LIPS, "follows"): value for name, value in own.items()}
        if self.protocol != "self":
            told["leak"] = leak.compute()[LIPS]
        return told


class _Curves:
    """Openings over time."""

    def __init__(self, spoken: Footage | None) -> None:
        self.rows: list[tuple[float, float, float]] = []
        self.said: list[float] | None = [] if spoken else None

    def add(self, made: Window, source: Window, spoken: Window | None) -> None:
        self.rows += zip(made.seconds.tolist(), opening(made).tolist(), opening(source).tolist(), strict=True)
        if self.said is not None:
            told = opening(spoken) if spoken is not None else np.zeros(0)
            held = np.interp(made.seconds, spoken.seconds, told) if spoken is not None else np.full(len(made), np.nan)
            self.said += held.tolist()

    def told(self, sound: Sound) -> Curves:
        """Return them with the sound's loudness, 0 to 1, at the same moments."""
        moments = np.array([row[0] for row in self.rows])
        half, loud = sound.rate // 50, np.zeros(len(moments))
        for i, moment in enumerate(moments):
            at = round(moment * sound.rate)
            part = sound.samples[max(0, at - half) : at + half]
            loud[i] = float(np.sqrt(np.square(part).mean())) if len(part) else 0.0
        top = loud.max(initial=0.0)
        return {
            "seconds": _rounded(moments),
            "opening": _rounded(row[1] for row in self.rows),
            "source": _rounded(row[2] for row in self.rows),
            "spoken": None if self.said is None or np.isnan(self.said).any() else _rounded(self.said),
            "loudness": _rounded(loud / top) if top > 0 else None,
        }


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(float(value), 4) for value in values]


def watched(path: Path, seconds: float = 0.0) -> Footage:
    """Return a film that was looked at, each once as long as it stays the same; a still picture held for so many seconds."""
    return _watched(path, seconds, path.stat().st_mtime_ns)


@lru_cache(maxsize=6)
def _watched(path: Path, seconds: float, stamp: int) -> Footage:
    film = probe(path)
    if film.still:
        film = extend(film, seconds, "hold")
    return look(film)


def pooled(names: Sequence[str], films: Sequence[tuple[Path, Path, float]]) -> dict[str, Value]:
    """Return figures of learned metrics over many films together.

    films: the made one, its source, and for how many seconds that is held if it is a still picture.
    """
    metrics: list[Learned] = [load("metric", name)() for name in names]
    wanted = [metric for metric in metrics if metric.network is not None]
    for path, source, seconds in films if wanted else ():
        truth = watched(source, seconds)
        made = truth if path == source else look(path)
        sound = read_sound(path) if made.film.has_sound else SILENCE
        for metric in wanted:
            show(metric, made, truth, sound)
    return {name: value for metric in metrics for name, value in metric.compute().items()}


def all_metrics() -> list[str]:
    """Return every name behind the metric door."""
    return names("metric")
