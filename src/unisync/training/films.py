"""One film to its record: every track cut, measured and judged. A record is all that a stopped run needs to go on.

FILMS/ID.json says what was found, FILMS/ID.npz holds what samples are compared by, FILMS/ID.tar the samples that are kept.
Nothing in it depends on the other films, nor on who made it when.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from unisync.audio.mel import RATE
from unisync.audio.vad import voice_activity
from unisync.errors import MediaError, UnisyncError
from unisync.face.align import yaw_degrees
from unisync.face.detect import FaceModels
from unisync.media.probe import probe
from unisync.media.sound import read_sound
from unisync.metrics.expert import expert_weights, measure_sync
from unisync.options import PrepareOptions
from unisync.scanning import scan_film
from unisync.training.alike import fingerprint
from unisync.training.canvases import LAST_FRAME, Span, aligned, cut_pixels, heard, spans_of
from unisync.training.dataset import Canvases, Figures, append, pack
from unisync.training.filters import FILTERS, occlusion, sharpness
from unisync.training.identity import look
from unisync.types import Floats, Pixels, Plan, Sound
from unisync.whole import write_whole

THUMB = 64
SYNC_RATE = 25  # what offsets are counted in, a second
CERTAIN = 2  # offsets under this lie within the sync expert's error on a few seconds
AROUND = 0.8  # seconds of sound on both sides that the sync expert may shift by


@dataclass(frozen=True)
class Candidate:
    """A span that was measured. dropped: the first filter that refused it, "" if it is a sample."""

    key: str
    track: str
    figures: Figures
    dropped: str


@dataclass(frozen=True)
class FilmRecord:
    """What became of one film. stamp: size and time of the file.  error: why it could not be read, or ""."""

    film: str
    stamp: list[int]
    seconds: float = 0.0
    error: str = ""
    candidates: list[Candidate] = field(default_factory=list)


@dataclass(frozen=True)
class Job:
    """A film to be cut. name: its path in the folder that is prepared.  records: where its record goes."""

    path: Path
    name: str
    records: Path
    options: PrepareOptions

    @property
    def ident(self) -> str:
        """Its name in the dataset: readable, and its own even if two films are called the same."""
        words = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(self.name).stem).strip("-")[:40]
        return f"{words}-{hashlib.sha256(self.name.encode()).hexdigest()[:8]}"

    @property
    def stamp(self) -> list[int]:
        about = self.path.stat()
        return [about.st_size, about.st_mtime_ns]

    def is_done(self) -> bool:
        """Return whether there is a record of the film as it is now."""
        path = self.records / f"{self.ident}.json"
        return path.exists() and read_record(path).stamp == self.stamp


def read_record(path: Path) -> FilmRecord:
    """Read FILMS/ID.json."""
    about = json.loads(path.read_text("utf-8"))
    return FilmRecord(**{**about, "candidates": [Candidate(**item) for item in about["candidates"]]})


def read_traits(path: Path) -> dict[str, Any]:
    """Read FILMS/ID.npz: look-KEY and print-KEY of each sample, thumb-KEY (JPEG bytes) of each candidate."""
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def cut_film(job: Job) -> str:
    """Write a film's record and return its name; what is wrong with the film is written there."""
    traits: dict[str, Any] = {}
    tar = _private(job, "tar")
    try:
        with tarfile.open(tar, "w", format=tarfile.GNU_FORMAT) as samples:
            seconds, candidates = _cut(job, samples, traits)
        record = FilmRecord(job.name, job.stamp, seconds, "", candidates)
    except Exception as error:  # whatever one film of ten thousand does to a decoder, the others go on
        kind = "" if isinstance(error, MediaError) else f"{type(error).__name__}: "
        record = FilmRecord(job.name, job.stamp, error=f"{kind}{error}")
    if any(not item.dropped for item in record.candidates):
        tar.replace(job.records / f"{job.ident}.tar")
    tar.unlink(missing_ok=True)
    part = _private(job, "npz")
    with part.open("wb") as file:
        np.savez(file, **traits)
    part.replace(job.records / f"{job.ident}.npz")
    write_whole(job.records / f"{job.ident}.json", json.dumps(asdict(record), ensure_ascii=False) + "\n")
    return job.name


def _cut(job: Job, samples: tarfile.TarFile, traits: dict[str, Any]) -> tuple[float, list[Candidate]]:
    """Return the film's seconds and its candidates, in the order in which they end."""
    film = probe(job.path)
    if film.still:
        raise MediaError(f"{job.path} is a single picture.")
    options = job.options
    plan = scan_film(film, models=_models())
    sound = read_sound(job.path) if film.has_sound else Sound(np.zeros(0, np.float32), RATE)
    voice = voice_activity(sound) if len(sound.samples) else np.zeros(0, np.float32)
    found: list[Candidate] = []
    for span, pixels, matrices in cut_pixels(film, plan, spans_of(plan, options.max_seconds), options.canvas):
        key = f"{job.ident}-{len(found):04d}"
        canvases = aligned(plan, span, pixels, matrices)
        figures = {"film": job.name, **measure(plan, span, voice), **_looks(canvases, matrices)}
        if not refused(figures, options) and figures["speech"] and options.min_sync:
            figures |= synced(canvases, float(plan.seconds[span.frames[0]]), sound)
        offset = float(figures.get("offset", 0.0))
        late = offset / SYNC_RATE if abs(offset) >= CERTAIN else 0.0
        canvases = replace(canvases, samples=heard(sound, plan, span, late))
        dropped = refused(figures, options)
        found.append(Candidate(key, span.track.name, figures, dropped))
        traits[f"thumb-{key}"] = _thumb(pixels[len(pixels) // 2])
        if not dropped:
            append(samples, key, pack(canvases, options.pictures == "lossless"))
            traits[f"look-{key}"], traits[f"print-{key}"] = look(canvases), fingerprint(canvases).astype(np.float16)
    return float(film.duration), found


def measure(plan: Plan, span: Span, voice: Floats) -> Figures:
    """Return the figures that a plan has of a span.

    voice: 100 values a second, 1 where somebody speaks.
    speech: that, on average.  lips, rival: how much this face's lips, and the liveliest other's, move meanwhile.
    """
    moments = np.array([float(s) for s in plan.seconds[span.start : span.stop]])
    step = float(np.median(np.diff(moments))) if len(moments) > 1 else LAST_FRAME
    seconds = float(moments[-1] - moments[0]) + step
    at = np.round(moments * 100).astype(int)
    spoken = (at < len(voice)) & (voice[np.minimum(at, len(voice) - 1)] > 0) if len(voice) else np.zeros(len(at), bool)
    boxes = span.of(span.track.boxes)
    lips = span.of(span.track.speaking)
    rivals = [0.0]
    for other in plan.tracks:
        first, last = max(other.start, span.start), min(other.stop, span.stop)
        if other is not span.track and first < last:
            moving = (
                other.speaking[first - other.start : last - other.start]
                * spoken[first - span.start : last - span.start]
            )
            rivals.append(float(moving.sum()) / max(int(spoken.sum()), 1))
    return {
        "start": round(float(moments[0]), 3),
        "seconds": round(seconds, 3),
        "rate": round(len(span.frames) / seconds, 2),
        "face": round(float(np.median(boxes[:, 2] - boxes[:, 0])), 1),
        "seen": round(float((span.of(span.track.score) > 0.5).mean()), 3),
        "yaw": round(float(np.percentile(np.abs(yaw_degrees(span.of(span.track.landmarks))), 90)), 1),
        "speech": round(float(spoken.mean()), 3),
        "lips": round(float(lips[spoken].mean()), 3) if spoken.any() else 0.0,
        "rival": round(max(rivals), 3),
    }


def synced(canvases: Canvases, first: float, sound: Sound) -> Figures:
    """Return what our sync expert says of a sample, nothing where its weights are not there or the sample is too short.

    first: the first frame's moment on the sound's clock.
    sync: the expert's confidence.  offset: by how many 25ths of a second the sound comes late.
    """
    if not expert_weights().exists():
        return {}
    start = max(0.0, first - AROUND)
    around = sound.cut(start, min(sound.seconds, first + float(canvases.seconds[-1]) + AROUND))
    try:
        sync = measure_sync(canvases.pixels, canvases.seconds + (first - start), around)
    except UnisyncError:
        return {}
    return {"sync": round(sync.confidence, 4), "distance": round(sync.distance, 4), "offset": sync.offset}


def refused(figures: Figures, options: PrepareOptions) -> str:
    """Return the first filter that refuses a sample, "" if none does."""
    return next((item.figure for item in FILTERS if item.drops(figures, options)), "")


def _looks(canvases: Canvases, matrices: Floats) -> Figures:
    scale = float(np.median(np.sqrt(np.abs(np.linalg.det(matrices[:, :, :2])))))
    return {
        "scale": round(scale, 3),
        "sharpness": round(sharpness(canvases.pixels, scale), 3),
        "occlusion": round(occlusion(canvases.pixels, canvases.landmarks), 2),
    }


def _thumb(image: Pixels) -> Pixels:
    small = cv2.resize(image, (THUMB, THUMB), interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return np.asarray(data, np.uint8).ravel()


def _private(job: Job, suffix: str) -> Path:
    return job.records / f".{job.ident}.{os.getpid()}.{suffix}.part"


@cache
def _models() -> FaceModels:
    """One set for each process."""
    return FaceModels()
