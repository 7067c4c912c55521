"""How finished films come before the metrics: as windows of faces beside their source's.

Windows lie on the source's canvases, at the pitch of the film's own pixels, so that nothing is lost by scaling; a metric
whose network was made for another cut names a view, and is shown that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unisync.face.align import ANCHORS, canvas_matrices, crop_frame, transform
from unisync.face.detect import overlap
from unisync.face.views import VIEWS
from unisync.media import Film, probe, read_frames
from unisync.methods.windows import Canvas, window_of
from unisync.metrics.learned import Learned
from unisync.scanning import choose, scan_film
from unisync.types import NUM_LANDMARKS, Floats, Plan, Sound, Track, Window

LENGTH = 32
"""Frames in a window that metrics see."""
SMALLEST, LARGEST = 64, 768
"""Sides of canvases, px: faces smaller or larger than that are scaled after all."""
SAME_FACE = 0.2
LANDMARK_CANVAS = 128
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
                    pixels = crop_frame(frame, matrix, size)
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


def found_beside(tracks: Sequence[Track], like: Track, index: int) -> Floats | None:
    """Return the landmarks (468, 2) px of the face that lies where another track's does in that frame."""
    box = like.boxes[index - like.start]
    here = [t for t in tracks if t.start <= index < t.stop]
    best = max(here, key=lambda t: overlap(t.boxes[index - t.start], box), default=None)
    if best is None or overlap(best.boxes[index - best.start], box) < SAME_FACE:
        return None
    return np.asarray(best.landmarks[index - best.start], np.float32)


def show(metric: Learned, made: Footage, source: Footage, sound: Sound) -> None:
    """Show a metric a film beside its source, through the view that it names."""
    if VIEWS[metric.view].whole:
        metric.begin()
        for windows in zip(whole(made, metric, sound), whole(source, metric, SILENCE), strict=False):
            metric.update(*windows)
    elif metric.alone:
        for track in made.tracks:
            metric.begin()
            for window in seen(made, track.start, track.landmarks, metric, sound):
                metric.update(window)
    else:
        for track in source.tracks:
            metric.begin()
            stop = min(track.stop, len(made.film))
            own = [found_beside(made.tracks, track, index) for index in range(track.start, stop)]
            nobody = np.full((NUM_LANDMARKS, 2), np.nan, np.float32)
            faces = np.array([nobody if points is None else points for points in own], np.float32)
            truths = seen(source, track.start, track.landmarks[: len(own)], metric, SILENCE)
            for windows in zip(seen(made, track.start, faces, metric, sound), truths, strict=True):
                metric.update(*windows)


def whole(film: Footage, metric: Learned, sound: Sound) -> Iterator[Window]:
    """Yield windows of all frames of a film; of faces they know nothing."""
    nothing = np.broadcast_to(np.float32(np.nan), (len(film.film), NUM_LANDMARKS, 2))
    return seen(film, 0, nothing, metric, sound)


def seen(film: Footage, start: int, landmarks: Floats, metric: Learned, sound: Sound) -> Iterator[Window]:
    """Yield windows of a stretch of a film as a metric wants to see it. landmarks: (T, 468, 2) px, nan: no face, black."""
    view, size = VIEWS[metric.view], metric.size
    there = np.isfinite(landmarks).all((1, 2)) | np.full(len(landmarks), view.whole)
    matrices = np.zeros((len(landmarks), 2, 3))
    if there.any():
        matrices[there] = view.matrices(landmarks[there], (film.plan.width, film.plan.height), size)
    rows: list[Canvas] = []
    for i, frame in enumerate(read_frames(film.film, start, start + len(landmarks))):
        black = np.zeros((size, size, 3), np.uint8)
        pixels = view.show(frame.pixels, matrices[i], size) if there[i] else black
        points = transform(landmarks[i], matrices[i].astype(np.float32))
        rows.append(Canvas(frame.index, pixels, float(film.plan.seconds[start + i]), points))
        if len(rows) == LENGTH or i == len(landmarks) - 1:
            yield window_of(rows, sound)
            rows = []
