"""Films to aligned canvases, one .npz a film: the same scan and crop as inference uses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unisync.audio.mel import RATE
from unisync.errors import UnisyncError
from unisync.face.align import canvas_matrices, crop, transform
from unisync.face.detect import FaceModels
from unisync.media.probe import probe
from unisync.media.reader import read_frames
from unisync.media.sound import read_sound
from unisync.scan import scan_film
from unisync.types import Floats, Pixels, Track

MIN_FACE = 80  # px
MIN_FRAMES = 12
SEEN = 0.9
"""Share of a track's frames in which the face must be seen."""


@dataclass(frozen=True, eq=False)
class Canvases:
    """One face through one shot.

    pixels: uint8 (T, S, S, 3).  landmarks: float32 (T, 468, 2) canvas px.  seconds: float64 (T,), the first at 0.
    samples: int16 (N,) at 16 kHz from the first frame on, empty for a silent film.  speaker: who it is, as far as known.
    """

    pixels: Pixels
    landmarks: Floats
    seconds: NDArray[np.float64]
    samples: NDArray[np.int16]
    speaker: str


def prepare(films: list[Path], out: Path, size: int = 128, speakers: dict[str, str] | None = None) -> Iterator[str]:
    """Write OUT/NAME.npz for the best face of each film and yield a line for each; what is there already is kept.

    speakers: film name -> speaker; a film that is not in it is its own speaker.
    """
    out.mkdir(parents=True, exist_ok=True)
    models = FaceModels()
    for film in films:
        goal = out / f"{film.stem}.npz"
        if goal.exists():
            continue
        try:
            canvases = cut_canvases(film, size, models, (speakers or {}).get(film.name, film.stem))
        except UnisyncError as error:
            yield f"skipped {film.name}: {error}"
            continue
        part = goal.with_suffix(".part")
        with part.open("wb") as file:
            np.savez(file, **vars(canvases))
        part.replace(goal)
        yield f"{film.name}: {len(canvases.pixels)} frames"


def load_canvases(path: Path) -> Canvases:
    """Read what `prepare` wrote."""
    with np.load(path) as data:
        return Canvases(
            pixels=data["pixels"],
            landmarks=data["landmarks"],
            seconds=data["seconds"],
            samples=data["samples"],
            speaker=str(data["speaker"]),
        )


def cut_canvases(path: Path, size: int, models: FaceModels, speaker: str) -> Canvases:
    """Return the canvases of a film's largest well-seen face. Raises UnisyncError if it has none."""
    film = probe(path)
    plan = scan_film(film, models=models)
    fit = [t for t in plan.tracks if _side(t) >= MIN_FACE and len(t) >= MIN_FRAMES and (t.score > 0.5).mean() > SEEN]
    if not fit:
        raise UnisyncError(f"no face of {MIN_FACE} px or more is well seen for {MIN_FRAMES} frames")
    track = max(fit, key=lambda t: _side(t) * len(t))
    moments = np.array([float(s) for s in plan.seconds[track.start : track.stop]])
    matrices = canvas_matrices(track.landmarks, size, list(moments))
    frames = read_frames(film, track.start, track.stop)
    samples = np.zeros(0, np.int16)
    if film.has_sound:
        sound = read_sound(path).cut(moments[0], moments[-1] + 0.04)
        samples = np.clip(np.round(sound.samples * 32767), -32768, 32767).astype(np.int16)
        assert sound.rate == RATE
    return Canvases(
        pixels=np.stack([crop(f.pixels, m, size) for f, m in zip(frames, matrices, strict=True)]),
        landmarks=np.stack([transform(p, m) for p, m in zip(track.landmarks, matrices, strict=True)]),
        seconds=moments - moments[0],
        samples=samples,
        speaker=speaker,
    )


def _side(track: Track) -> float:
    return float(np.median(track.boxes[:, 2] - track.boxes[:, 0]))
