"""Films to aligned canvases with their sound: the same scan and crop as inference uses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unisync.audio.mel import RATE
from unisync.errors import UnisyncError
from unisync.face.align import canvas_matrices, crop_frame, transform
from unisync.face.detect import FaceModels
from unisync.media.film import Film
from unisync.media.probe import probe
from unisync.media.reader import read_frames
from unisync.media.sound import read_sound
from unisync.scanning import scan_film
from unisync.training.dataset import Canvases
from unisync.types import Floats, Frame, Pixels, Plan, Sound, Track

MIN_FACE = 80  # px
MIN_FRAMES = 12
SEEN = 0.9
"""Share of a track's frames in which the face must be seen."""


RATE_OUT = 25
"""Frames a second that are kept at most."""
LAST_FRAME = 0.04
"""Seconds of sound that are kept after the last frame's moment."""
SKIPPED = 50
"""Frames that nobody wants are decoded and thrown away up to here; beyond, the reader seeks."""


@dataclass(frozen=True, eq=False)
class Span:
    """A stretch of a track that may become a sample: frames [start, stop) of the film.

    frames: which of them are kept.
    """

    track: Track
    start: int
    stop: int
    frames: tuple[int, ...]

    def of(self, values: Floats) -> Floats:
        """Return what belongs to this span of a track's values (T, ...)."""
        return values[self.start - self.track.start : self.stop - self.track.start]


def spans_of(plan: Plan, max_seconds: float) -> list[Span]:
    """Return every track of a plan in even parts of at most `max_seconds`."""
    seconds = np.array([float(moment) for moment in plan.seconds])
    spans = []
    for track in plan.tracks:
        moments = seconds[track.start : track.stop]
        num = ceil(max(moments[-1] - moments[0], 1e-6) / max_seconds)
        edges = np.searchsorted(moments, np.linspace(moments[0], moments[-1], num + 1)[1:-1])
        for part in np.split(np.arange(track.start, track.stop), edges):
            frames = part[thinned(seconds[part])]
            spans.append(Span(track, int(part[0]), int(part[-1]) + 1, tuple(frames.tolist())))
    return spans


def thinned(seconds: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return which frames to keep: for every 25th of a second the nearest one, none twice.

    Slower films keep all they have. Frames are neither blended nor repeated, and keep their own moments: a blend has
    two mouths, and a moment that is moved to a grid is up to 20 ms out of sync.
    """
    ticks = np.arange(seconds[0], seconds[-1] + 0.5 / RATE_OUT, 1 / RATE_OUT)
    after = np.clip(np.searchsorted(seconds, ticks), 1, max(1, len(seconds) - 1))
    before = after - 1
    after = np.minimum(after, len(seconds) - 1)
    nearest = np.where(ticks - seconds[before] <= seconds[after] - ticks, before, after)
    return np.unique(nearest)


def cut_pixels(film: Film, plan: Plan, spans: list[Span], size: int) -> Iterator[tuple[Span, Pixels, Floats]]:
    """Yield (span, canvases (T, S, S, 3), matrices (T, 2, 3)) as they are complete; holds no more than what is open."""
    seconds = [float(moment) for moment in plan.seconds]
    matrices = {
        id(span.track): canvas_matrices(span.track.landmarks, size, seconds[span.track.start : span.track.stop])
        for span in spans
    }
    waiting = sorted(spans, key=lambda span: (span.start, span.stop))
    opened: list[tuple[Span, dict[int, Pixels]]] = []
    for frame in _wanted(film, spans):
        while waiting and waiting[0].start <= frame.index:
            opened.append((waiting.pop(0), {}))
        for span, crops in opened:
            if frame.index in span.frames:
                crops[frame.index] = crop_frame(frame, matrices[id(span.track)][frame.index - span.track.start], size)
        done = [item for item in opened if item[0].stop == frame.index + 1]
        opened = [item for item in opened if item[0].stop > frame.index + 1]
        for span, crops in done:
            own = [i - span.track.start for i in span.frames]
            yield span, np.stack([crops[i] for i in span.frames]), matrices[id(span.track)][own]


def _wanted(film: Film, spans: list[Span]) -> Iterator[Frame]:
    """Yield the frames that lie in spans, in order; over long stretches between them the reader seeks."""
    runs: list[list[int]] = []
    for span in sorted(spans, key=lambda span: span.start):
        if runs and span.start <= runs[-1][1] + SKIPPED:
            runs[-1][1] = max(runs[-1][1], span.stop)
        else:
            runs.append([span.start, span.stop])
    for start, stop in runs:
        yield from read_frames(film, start, stop)


def cut_canvases(path: Path, size: int, models: FaceModels, speaker: str) -> Canvases:
    """Return the canvases of a film's largest well-seen face, every frame. Raises UnisyncError if it has none."""
    film = probe(path)
    plan = scan_film(film, models=models)
    fit = [t for t in plan.tracks if _side(t) >= MIN_FACE and len(t) >= MIN_FRAMES and (t.score > 0.5).mean() > SEEN]
    if not fit:
        raise UnisyncError(f"no face of {MIN_FACE} px or more is well seen for {MIN_FRAMES} frames")
    track = max(fit, key=lambda t: _side(t) * len(t))
    span = Span(track, track.start, track.stop, tuple(range(track.start, track.stop)))
    ((_, pixels, matrices),) = cut_pixels(film, plan, [span], size)
    sound = read_sound(path) if film.has_sound else Sound(np.zeros(0, np.float32), RATE)
    canvases = aligned(plan, span, pixels, matrices)
    return replace(canvases, samples=heard(sound, plan, span), speaker=speaker)


def aligned(plan: Plan, span: Span, pixels: Pixels, matrices: Floats) -> Canvases:
    """Return the canvases of a span that `cut_pixels` gave, still silent and nameless."""
    marks = span.track.landmarks[np.array(span.frames) - span.track.start]
    return Canvases(
        pixels=pixels,
        landmarks=np.stack([transform(p, m) for p, m in zip(marks, matrices, strict=True)]),
        seconds=np.array([float(plan.seconds[i] - plan.seconds[span.frames[0]]) for i in span.frames]),
        samples=np.zeros(0, np.int16),
        speaker="",
    )


def heard(sound: Sound, plan: Plan, span: Span, late: float = 0.0) -> NDArray[np.int16]:
    """Return int16 (N,), what belongs to a span of a film whose sound comes `late` seconds late; nothing of no sound."""
    if not len(sound.samples):
        return np.zeros(0, np.int16)
    first, last = (float(plan.seconds[i]) for i in (span.frames[0], span.frames[-1]))
    samples = sound.cut(first + late, last + LAST_FRAME + late).samples
    return np.clip(np.round(samples * 32767), -32768, 32767).astype(np.int16)


def _side(track: Track) -> float:
    return float(np.median(track.boxes[:, 2] - track.boxes[:, 0]))
