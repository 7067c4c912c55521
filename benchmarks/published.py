"""The papers' learned metrics of a folder of made films, one table (python benchmarks/published.py MADE SOURCES).

MADE holds finished films, SOURCES a film of the same name (whatever its suffix) for each. All films together give one
figure: FID and FVD need thousands of frames. The sources stand below as films that were made of themselves, so that
LSE-C above theirs is seen for what it is. Weights are looked for where docs/models.md says.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from footage import LENGTH, SILENCE, Footage, films, found_beside, look
from tables import figure, header, line
from unisync.errors import MediaError
from unisync.face.align import transform
from unisync.face.views import VIEWS
from unisync.media import probe, read_frames, read_sound
from unisync.methods.windows import Canvas, window_of
from unisync.metrics.base import Value
from unisync.metrics.learned import Learned
from unisync.registry import load
from unisync.types import NUM_LANDMARKS, Floats, Sound, Window

NAMES = ("fid", "fvd", "fvd_rgb_imagenet", "csim", "lse_c_tracked", "lse_c_frame")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("made", type=Path)
    parser.add_argument("sources", type=Path)
    parser.add_argument("--only", nargs="*", default=[], help="parts of file names")
    given = parser.parse_args()
    made = films(given.made, given.only)
    sources = [source_of(path, given.sources) for path in made]
    rows = {"made": judge_all(made, sources), "the sources themselves": judge_all(sources, sources)}
    columns = list(rows["made"])
    print(header([f"{len(made)} films", *columns]))
    for name, figures in rows.items():
        print(line([name, *(figure(figures, column) for column in columns)]))


def source_of(path: Path, folder: Path) -> Path:
    """Return the film of that name in a folder. Raises MediaError if there is none."""
    source = next((other for other in films(folder) if other.stem == path.stem), None)
    if source is None:
        raise MediaError(f"{folder}: holds no film named {path.stem}, the source of {path.name}; put it there")
    return source


def judge_all(made: Sequence[Path], sources: Sequence[Path]) -> dict[str, Value]:
    """Return every figure of some films beside their sources by name."""
    metrics: list[Learned] = [load("metric", name)() for name in NAMES]
    wanted = [metric for metric in metrics if metric.network is not None]
    for path, source in zip(made, sources, strict=True) if wanted else ():
        new = look(path)
        old = new if path == source else look(source)
        sound = read_sound(path) if probe(path).has_sound else SILENCE
        for metric in wanted:
            show(metric, new, old, sound)
    return {name: value for metric in metrics for name, value in metric.compute().items()}


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
    there = np.isfinite(landmarks).all((1, 2)) | view.whole
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


if __name__ == "__main__":
    main()
