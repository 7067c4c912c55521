"""Which films a benchmark takes, and how finished films come before the metrics: as windows beside their source's.

Windows lie on the source's canvases, at the pitch of the film's own pixels, so that nothing is lost by scaling.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unisync.face.align import ANCHORS, canvas_matrices, crop, transform
from unisync.face.detect import overlap
from unisync.media import Film, probe, read_frames
from unisync.methods.windows import Canvas, window_of
from unisync.metrics.base import Metric, Value, ratio
from unisync.metrics.expert import ExpertSync, expert_weights
from unisync.metrics.landmarks import LipCorrelation
from unisync.options import DubOptions
from unisync.registry import load
from unisync.scan import choose, scan_film
from unisync.types import Floats, Plan, Sound, Track, Window

FILMS = (".mp4", ".mkv", ".mov", ".webm", ".flv")
STILLS = (".png", ".jpg")
SPEECH_SECONDS = 4
"""Shorter films lend nobody their speech."""
LENGTH = 32
"""Frames in a window that metrics see."""
SMALLEST, LARGEST = 64, 768
"""Sides of canvases, px: faces smaller or larger than that are scaled after all."""
SAME_FACE = 0.2
LANDMARK_CANVAS = 128
BESIDE_SOURCE = ("sharpness", "flicker", "seam", "jitter", "identity_shape", "mouth_likeness")
SILENCE = Sound(np.zeros(0, np.float32), 16000)


@dataclass(frozen=True, eq=False)
class Footage:
    """A film that was looked at: its plan, and the faces that are dubbed unless one asks for others."""

    film: Film
    plan: Plan
    tracks: tuple[Track, ...]

    @cached_property
    def canvases(self) -> tuple[NDArray[np.float64], Floats]:
        """Moments (N,) and landmarks float32 (N, 468, 2) on canvases of 128 px, of all its tracks."""
        moments, landmarks = [], []
        for track in self.tracks:
            seconds = [float(moment) for moment in self.plan.seconds[track.start : track.stop]]
            matrices = canvas_matrices(track.landmarks, LANDMARK_CANVAS, seconds)
            moments += seconds
            landmarks += [transform(p, m) for p, m in zip(track.landmarks, matrices, strict=True)]
        return np.array(moments), np.array(landmarks, np.float32)

    def around(self, seconds: NDArray[np.float64]) -> Window | None:
        """Return what its face did at those moments, landmarks only; None where there are fewer than two frames."""
        moments, landmarks = self.canvases
        first = max(0, int(np.searchsorted(moments, seconds[0], "right")) - 1)
        stop = int(np.searchsorted(moments, seconds[-1], "left")) + 1
        if len(moments[first:stop]) < 2:
            return None
        shape = (len(moments[first:stop]), LANDMARK_CANVAS, LANDMARK_CANVAS, 3)
        return Window(first, np.broadcast_to(np.uint8(0), shape), moments[first:stop], landmarks[first:stop], SILENCE)


def look(film: Film | Path) -> Footage:
    """Scan a film and choose its faces as `dub` does."""
    film = film if isinstance(film, Film) else probe(film)
    plan = scan_film(film)
    return Footage(film, plan, tuple(choose(plan, "largest")) if plan.tracks else ())


def judge(made: Footage, source: Footage, spoken: Footage, sound: Sound) -> dict[str, Value]:
    """Return every figure of a finished film by name.

    spoken: the film that its sound is from; "follows" is the correlation with its lips, "leak" that with the source's;
    "sync" is our expert's confidence as a share of its confidence in that film.
    """
    metrics: list[Metric] = [load("metric", name)() for name in BESIDE_SOURCE]
    expert = [ExpertSync()] if expert_weights().is_file() else []
    follows, leak = LipCorrelation(), LipCorrelation()
    for window, truth in pairs(made, source, sound):
        for metric in (*metrics, *expert):
            metric.update(window, truth)
        leak.update(window, truth)
        lips = spoken.around(window.seconds)
        if lips:
            follows.update(window, lips)
    figures: dict[str, Value] = {"follows": follows.compute()[follows.name], "leak": leak.compute()[leak.name]}
    for metric in (*metrics, *expert):
        figures |= metric.compute()
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


def pairs(made: Footage, source: Footage, sound: Sound = SILENCE) -> Iterator[tuple[Window, Window]]:
    """Yield the made film's windows beside the source's, of the frames in which both show the face.

    sound: what is heard in the made film.
    """
    for track in source.tracks:
        size = native_size(track)
        seconds = [float(moment) for moment in source.plan.seconds[track.start : track.stop]]
        matrices = canvas_matrices(track.landmarks, size, seconds)
        found = [found_beside(made.tracks, track, index) for index in range(track.start, track.stop)]
        readers = zip(
            read_frames(made.film, track.start, min(track.stop, len(made.film))),
            read_frames(source.film, track.start, track.stop),
            strict=False,
        )
        made_rows, source_rows = list[Canvas](), list[Canvas]()
        for i, (new, old) in enumerate(readers):
            landmarks, matrix = found[i], matrices[i]
            if landmarks is not None:
                for rows, frame, points in ((made_rows, new, landmarks), (source_rows, old, track.landmarks[i])):
                    pixels = crop(frame.pixels, matrix, size)
                    rows.append(Canvas(frame.index, pixels, seconds[i], transform(points, matrix)))
            if made_rows and (landmarks is None or len(made_rows) == LENGTH):
                yield window_of(made_rows, sound), window_of(source_rows, SILENCE)
                made_rows, source_rows = [], []
        if made_rows:
            yield window_of(made_rows, sound), window_of(source_rows, SILENCE)


def native_size(track: Track) -> int:
    """Return the canvas side at which a canvas pixel is about one of the film's."""
    right, left = (track.landmarks[:, pair].mean(1) for pair in ([33, 133], [362, 263]))
    eyes = float(np.median(np.linalg.norm(left - right, axis=1)))
    return int(np.clip(round(eyes / (ANCHORS[1, 0] - ANCHORS[0, 0])), SMALLEST, LARGEST))


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


def found_beside(tracks: Sequence[Track], like: Track, index: int) -> Floats | None:
    """Return the landmarks (468, 2) px of the face that lies where another track's does in that frame."""
    box = like.boxes[index - like.start]
    here = [t for t in tracks if t.start <= index < t.stop]
    best = max(here, key=lambda t: overlap(t.boxes[index - t.start], box), default=None)
    if best is None or overlap(best.boxes[index - best.start], box) < SAME_FACE:
        return None
    return np.asarray(best.landmarks[index - best.start], np.float32)
