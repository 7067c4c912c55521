"""The second pass over a film: every chosen face repainted, everything else left as it came, in bounded memory."""

from __future__ import annotations

import heapq
import logging
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from unisync.face.align import canvas_matrices, crop_frame, enlarged, finer, transform
from unisync.face.detect import FaceModels, roi_from_landmarks
from unisync.face.paste import beyond, paste
from unisync.mask import canvas_mask, lips_mask, mouth_mask
from unisync.media.encode import container_of
from unisync.media.film import Film
from unisync.media.mix import write_mix
from unisync.media.prefetch import prefetch
from unisync.media.reader import read_frames
from unisync.media.sound import Speech
from unisync.media.writer import write_film
from unisync.methods.base import Hears, Keep, Method, anew
from unisync.methods.windows import Canvas, stitch, windows
from unisync.metrics.base import Value
from unisync.metrics.pixels import OutsideMask
from unisync.mouth import PRESSED, choose_mouths, choose_reference, lip_parameters, opened
from unisync.options import DubOptions
from unisync.production import Production, facts_of, presence, settle, skipped
from unisync.types import (
    Floats,
    Frame,
    Mouths,
    OnProgress,
    Patch,
    Pixels,
    Plan,
    Progress,
    Reference,
    Report,
    Sound,
    Track,
)
from unisync.whole import write_whole

PROGRESS_FRAMES = 5
PREVIEW_SECONDS, PREVIEW_PIXELS = 1.0, 640
HARD = 0.5
"""Where a mask that does not fade ends."""
AHEAD = 8
"""Patches that are painted while earlier ones are pasted and encoded."""

Keeper = Callable[[str], Keep]
"""What returns a track's Keep, by its name."""


def dub_film(
    film: Path,
    speech: Path | None,
    out: Path,
    options: DubOptions,
    on_progress: OnProgress | None = None,
    speeches: Mapping[str, Path] | None = None,
) -> Report:
    """Write `out`: `film` with the chosen faces speaking `speech`, and the speech as its sound.

    speeches: faces, named as `--face` does, that say something of their own; the sound is then the sum of all speeches.
    Raises UnisyncError before any work where the input cannot be used; a run that fails or is killed leaves no `out`.
    """
    begun = time.monotonic()
    production = settle(film, speech, out, options, on_progress, speeches)
    return produce(production, on_progress, begun=begun)


def produce(
    production: Production,
    on_progress: OnProgress | None = None,
    keeper: Keeper | None = None,
    begun: float | None = None,
) -> Report:
    """Paint what was settled, write OUT and return the report.

    keeper: keeps painted windows, so that a run that is stopped can go on.  begun: time.monotonic() of the work's begin.
    """
    begun = time.monotonic() if begun is None else begun
    made, changed = production, OutsideMask()
    source, chosen = made.source, made.chosen
    cast = {name: sound for name, (sound, _) in made.cast.items()}
    with _soundtrack(made) as (speech, quieter):
        frames: Iterator[Frame] = dub_frames(source, made.plan, cast, made.method, changed, keeper)
        if made.options.preview is not None:
            frames = _previewed(frames, Path(made.options.preview))
        write_film(_told(frames, len(source), on_progress), made.out, source, speech, made.encode, made.origin)
    spent, several = time.monotonic() - begun, len(made.files) > 1
    tracks = [facts_of(made.plan, t) | ({"speech": str(made.cast[t.name][1])} if several else {}) for t in chosen]
    kept = made.origin.kept(container_of(made.out)) if made.origin else "none: --no-provenance"
    facts = {"method": made.options.method, "seed": made.options.seed, "provenance": kept, **made.method.spec.facts}
    return Report(
        film=str(source.path),
        speech=", ".join(map(str, made.files)),
        out=str(made.out),
        frames=len(source),
        seconds=float(source.duration),
        faces=len(chosen),
        tracks=tracks,
        skipped=skipped(made.plan, chosen),
        seconds_per_second=spent / max(float(source.duration), 1e-6),
        warnings=[*made.warnings, *quieter],
        facts={**facts, **_beyond(changed, made.method)},
    )


def paint_shot(production: Production, shot: int, keeper: Keeper) -> None:
    """Paint the chosen faces of one shot, for what `keeper` makes of it; no film is written."""
    for track in production.plan.shots[shot].tracks:
        if track.name in production.cast:
            sound, keep = production.cast[track.name][0], keeper(track.name)
            for _ in perform(production.source, production.plan, track, sound, production.method, keep):
                pass


@contextmanager
def heard() -> Iterator[list[str]]:
    """Collect what the floors below log as warnings."""
    warnings: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if (message := record.getMessage()) not in warnings:
                warnings.append(message)

    log, ear = logging.getLogger("unisync"), Ear(logging.WARNING)
    log.addHandler(ear)
    try:
        yield warnings
    finally:
        log.removeHandler(ear)


@contextmanager
def _soundtrack(production: Production) -> Iterator[tuple[Speech, list[str]]]:
    """Lend the sound to write, and warnings: the speech as it is, or the sum of several."""
    if len(production.files) == 1:
        yield production.speech, []
        return
    with tempfile.TemporaryDirectory(prefix=".unisync-", dir=production.out.absolute().parent) as folder:
        # what Matroska takes as it is; the others take WAV so, or encode it
        mix = Path(folder) / ("mix.flac" if production.out.suffix.lower() == ".mkv" else "mix.wav")
        gain = write_mix(production.files, mix, float(production.source.duration))
        quieter = [f"the sum of the speeches would clip and is {-20 * np.log10(gain):.1f} dB quieter"] * (gain < 1)
        yield replace(production.speech, path=mix), quieter


def dub_frames(
    film: Film,
    plan: Plan,
    cast: Mapping[str, Sound],
    method: Method,
    changed: OutsideMask | None = None,
    keeper: Keeper | None = None,
) -> Generator[Frame]:
    """Yield every frame of the film once, in order, on its own clock, the faces of the cast repainted.

    cast: what each track says that is painted.
    changed: is given what a method without composite changes beyond the mouth, in the film's own pixels.
    One reader per face runs ahead and keeps crops only; a trailing one reads the frame being finished.
    """

    def act(track: Track) -> Iterator[Patch]:
        return perform(film, plan, track, cast[track.name], method, anew if keeper is None else keeper(track.name))

    acts = ([act(track) for track in shot.tracks if track.name in cast] for shot in plan.shots)
    painted = (patch for faces in acts for patch in heapq.merge(*faces, key=lambda patch: patch.frame))
    patches = prefetch(painted, AHEAD)
    patch = next(patches, None)
    for frame in prefetch(read_frames(film)):
        while patch and patch.frame == frame.index:
            pasted = paste(frame, patch)
            if changed is not None and pasted is not frame and (wide := beyond(pasted, patch)):
                changed.add(wide[1], wide[0], wide[2])
            frame, patch = pasted, next(patches, None)
        yield frame
    assert patch is None, "a patch outlived its film: the plan is out of order"


def perform(film: Film, plan: Plan, track: Track, sound: Sound, method: Method, keep: Keep = anew) -> Iterator[Patch]:
    """Yield one face's patches in frame order; frames where the face is hidden have none."""
    size = method.spec.canvas
    seconds = [float(moment) for moment in plan.seconds[track.start : track.stop]]
    matrices = canvas_matrices(track.landmarks, size, seconds)
    points = np.stack([transform(p, m) for p, m in zip(track.landmarks, matrices, strict=True)])
    seen = presence(track.score)
    shown: dict[int, Pixels] = {}

    def canvases() -> Iterator[Canvas]:
        for i, frame in enumerate(read_frames(film, track.start, track.stop)):
            shown[i] = crop_frame(frame, matrices[i], size)
            yield Canvas(track.start + i, shown[i], seconds[i], points[i])

    performer, reference, mouths = method.begin(track, keep), None, None
    with ThreadPoolExecutor(1, "listen") as aside:  # the speech is heard while the shot is looked through
        heard = aside.submit(method.listen, sound) if isinstance(method, Hears) else None
        if method.spec.lends:
            mouths = lend_mouths(film, track, points, (matrices, size))
        else:
            reference = closed_face(film, track, points, (matrices, size))
        if heard is not None:
            heard.result()
    cuts = windows(prefetch(canvases(), method.spec.length), method.spec, sound, reference, mouths)
    for index, pixels in stitch(performer.render(cuts), method.spec.overlap, track.stop):
        i = index - track.start
        if seen[i] > 0:
            texture, mouth = 1 - lips_mask(points[i], size), mouth_mask(points[i], size)
            if method.spec.composite == "none":
                yield Patch(index, pixels, canvas_mask(size) * seen[i], matrices[i], shown[i], texture, mouth)
            else:
                mask = mouth if method.spec.composite == "gaussian" else (mouth > HARD).astype(np.float32)
                yield Patch(index, pixels, mask * seen[i], matrices[i], shown[i], texture)
        del shown[i]


def closed_face(film: Film, track: Track, points: Floats, place: tuple[Floats, int]) -> Reference:
    """Return the track's face with its lips closed; the arguments are those of `lend_mouths`."""
    matrices, size = place
    at = choose_reference(points, size, track.score)
    frame = next(read_frames(film, track.start + at, track.start + at + 1))
    return Reference(crop_frame(frame, matrices[at], size), points[at])


def lend_mouths(film: Film, track: Track, points: Floats, place: tuple[Floats, int]) -> Mouths:
    """Return canvases of the track whose mouths can be laid on its others; one more reading of its first frames.

    points: (T, 468, 2) canvas px.  place: frame px -> canvas px (T, 2, 3), and the canvas's side.
    """
    matrices, size = place
    at = choose_mouths(points, size, track.score)
    wanted, times = frozenset(at.tolist()), finer(matrices)
    frames = enumerate(prefetch(read_frames(film, track.start, track.start + max(wanted) + 1)))
    pairs = [
        (
            crop_frame(frame, matrices[i], size),
            crop_frame(frame, enlarged(matrices[i], times), times * size, cv2.INTER_CUBIC),
        )
        for i, frame in frames
        if i in wanted
    ]
    pixels, fine = (np.stack(canvases) for canvases in zip(*pairs, strict=True))
    shut = _seen_shut(pixels, points[at])
    return Mouths(pixels, points[at], lip_parameters(points, size)[at], fine, shut)


def _seen_shut(pixels: Pixels, points: Floats) -> Floats:
    """Return how far open the mesh sees mouths (K, S, S, 3) whose lips are pressed together, (K,) in canvas sides."""
    models, size = FaceModels(), pixels.shape[1]
    pressed = (opened(Reference(*each), -PRESSED).pixels for each in zip(pixels, points, strict=True))
    marks = [models.mesh(canvas, roi_from_landmarks(own))[0] for canvas, own in zip(pressed, points, strict=True)]
    return lip_parameters(np.stack(marks), size)[:, 0]


def _told(frames: Iterator[Frame], total: int, on_progress: OnProgress | None) -> Iterator[Frame]:
    for done, frame in enumerate(frames, 1):
        yield frame
        if on_progress and (done % PROGRESS_FRAMES == 0 or done == total):
            on_progress(Progress("dub", done, total))


def _previewed(frames: Iterator[Frame], path: Path) -> Iterator[Frame]:
    """Write a small JPEG of a finished frame now and then; whoever reads it sees a whole one."""
    due = 0.0
    for frame in frames:
        if time.monotonic() >= due:
            pixels = cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2BGR)
            scale = min(1.0, PREVIEW_PIXELS / max(pixels.shape))
            small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            write_whole(path, cv2.imencode(".jpg", small)[1].tobytes())
            due = time.monotonic() + PREVIEW_SECONDS
        yield frame


def _beyond(changed: OutsideMask, method: Method) -> dict[str, Value]:
    """Return how like the film what was painted beyond the mouth is (dB), and by how much the worst sample is off."""
    return (
        {"beyond_mouth": changed.psnr(), "beyond_mouth_worst": changed.worst} if method.spec.composite == "none" else {}
    )
