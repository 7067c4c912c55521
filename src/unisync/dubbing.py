"""The second pass over a film: every chosen face repainted, everything else left as it came, in bounded memory."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from scipy.ndimage import distance_transform_edt

from unisync.errors import OptionError
from unisync.face.align import canvas_matrices, crop_frame, enlarged, finer, transform
from unisync.face.paste import beyond, paste
from unisync.mask import canvas_mask, lips_mask, mouth_mask
from unisync.media.encode import EncodeOptions, check_out
from unisync.media.film import Film, cut, extend
from unisync.media.prefetch import prefetch
from unisync.media.probe import probe
from unisync.media.reader import read_frames
from unisync.media.sound import Speech, read_sound
from unisync.media.writer import write_film
from unisync.methods.base import Method
from unisync.methods.windows import Canvas, stitch, windows
from unisync.metrics.base import Value
from unisync.metrics.pixels import OutsideMask
from unisync.mouth import choose_mouths, choose_reference, lip_parameters
from unisync.options import DubOptions
from unisync.registry import load
from unisync.scanning import choose, load_plan, scan_film
from unisync.types import Floats, Frame, Mouths, OnProgress, Patch, Plan, Progress, Reference, Report, Sound, Track

SAME_LENGTH_SECONDS = 0.1
"""Films and speeches that differ by less than this count as equally long."""
SURE = 0.5
APPEAR_FRAMES = 3
"""Frames over which a patch comes and goes where its face is hidden for a while."""
PROGRESS_FRAMES = 5
HARD = 0.5
"""Where a mask that does not fade ends."""
AHEAD = 8
"""Patches that are painted while earlier ones are pasted and encoded."""


def dub_film(film: Path, speech: Path, out: Path, options: DubOptions, on_progress: OnProgress | None = None) -> Report:
    """Write `out`: `film` with the chosen faces speaking `speech`, and the speech as its sound.

    Raises UnisyncError before any work where the input cannot be used; a run that fails or is killed leaves no `out`.
    """
    begun = time.monotonic()
    encode = EncodeOptions(options.codec, options.crf, options.preset)
    source = probe(film)
    check_out(out, source, speech, encode)
    sound = read_sound(speech)
    source, sound, track, warnings = fit(source, sound, speech, options)
    method: Method = load("method", options.method)(options)
    plan = _plan(source, options, on_progress)
    chosen = choose(plan, "box1" if options.box else options.face)
    changed = OutsideMask()
    frames = dub_frames(source, plan, chosen, sound, method, changed)
    write_film(_told(frames, len(source), on_progress), out, source, track, encode)
    spent = time.monotonic() - begun
    return Report(
        film=str(film),
        speech=str(speech),
        out=str(out),
        frames=len(source),
        seconds=float(source.duration),
        faces=len(chosen),
        tracks=[_facts(plan, t) for t in chosen],
        skipped=skipped(plan, chosen),
        seconds_per_second=spent / max(float(source.duration), 1e-6),
        warnings=warnings,
        facts={"method": options.method, "seed": options.seed, **method.spec.facts, **_beyond(changed, method)},
    )


def fit(film: Film, sound: Sound, path: Path, options: DubOptions) -> tuple[Film, Sound, Speech, list[str]]:
    """Make film and speech equally long by the policies; return both, the sound to write, and warnings.

    when_longer rules a speech longer than the film, when_shorter a shorter one.
    """
    warnings: list[str] = []
    spoken = Fraction(len(sound.samples), sound.rate)
    if film.still:
        wanted = Fraction(options.seconds).limit_denominator(10**6) if options.seconds else spoken
        film = extend(film, wanted, "hold")
    track = Speech(path)
    seconds = float(film.duration)
    if sound.seconds > seconds + SAME_LENGTH_SECONDS:
        if options.when_longer == "cut":
            warnings.append(
                f"the speech is {sound.seconds - seconds:.2f} s longer than the film and is cut; "
                "--when-longer loop, bounce or hold lets the film go on"
            )
        else:
            film = extend(film, spoken, options.when_longer)
    elif sound.seconds < seconds - SAME_LENGTH_SECONDS:
        if options.when_shorter == "cut":
            film = cut(film, spoken)
        elif options.when_shorter == "loop":
            repeats = int(np.ceil(seconds / max(sound.seconds, 1e-3)))
            sound = Sound(np.tile(sound.samples, repeats), sound.rate)
            track = replace(track, repeats=True)
    return film, sound.cut(0, float(film.duration)), track, warnings


def dub_frames(
    film: Film,
    plan: Plan,
    chosen: Sequence[Track],
    sound: Sound,
    method: Method,
    changed: OutsideMask | None = None,
) -> Iterator[Frame]:
    """Yield every frame of the film once, in order, on its own clock, the chosen faces repainted.

    changed: is given what a method without composite changes beyond the mouth, in the film's own pixels.
    One reader per face runs ahead and keeps crops only; a trailing one reads the frame being finished.
    """
    names = {track.name for track in chosen}
    acts = ([perform(film, plan, t, sound, method) for t in shot.tracks if t.name in names] for shot in plan.shots)
    painted = (patch for act in acts for patch in heapq.merge(*act, key=lambda patch: patch.frame))
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


def perform(film: Film, plan: Plan, track: Track, sound: Sound, method: Method) -> Iterator[Patch]:
    """Yield one face's patches in frame order; frames where the face is hidden have none."""
    size = method.spec.canvas
    seconds = [float(moment) for moment in plan.seconds[track.start : track.stop]]
    matrices = canvas_matrices(track.landmarks, size, seconds)
    points = np.stack([transform(p, m) for p, m in zip(track.landmarks, matrices, strict=True)])
    seen = presence(track.score)
    at = choose_reference(points, size, track.score)
    closed = next(read_frames(film, track.start + at, track.start + at + 1))
    reference = Reference(crop_frame(closed, matrices[at], size), points[at])

    def canvases() -> Iterator[Canvas]:
        for i, frame in enumerate(read_frames(film, track.start, track.stop)):
            yield Canvas(track.start + i, crop_frame(frame, matrices[i], size), seconds[i], points[i])

    performer = method.begin(track)
    mouths = lend_mouths(film, track, points, (matrices, size)) if method.spec.lends else None
    cuts = windows(prefetch(canvases(), method.spec.length), method.spec, sound, reference, mouths)
    for index, pixels in stitch(performer.render(cuts), method.spec.overlap, track.stop):
        i = index - track.start
        if seen[i] > 0:
            keep, mouth = 1 - lips_mask(points[i], size), mouth_mask(points[i], size)
            if method.spec.composite == "none":
                yield Patch(index, pixels, canvas_mask(size) * seen[i], matrices[i], keep, mouth)
            else:
                mask = mouth if method.spec.composite == "gaussian" else (mouth > HARD).astype(np.float32)
                yield Patch(index, pixels, mask * seen[i], matrices[i], keep)


def lend_mouths(film: Film, track: Track, points: Floats, place: tuple[Floats, int]) -> Mouths:
    """Return canvases of the track whose mouths can be laid on its others; one more reading of its first frames.

    points: (T, 468, 2) canvas px.  place: frame px -> canvas px (T, 2, 3), and the canvas's side.
    """
    matrices, size = place
    at = choose_mouths(points, size, track.score)
    wanted, times = frozenset(at.tolist()), finer(matrices)
    frames = enumerate(read_frames(film, track.start, track.start + max(wanted) + 1))
    pairs = [
        [crop_frame(frame, enlarged(matrices[i], n), n * size) for n in (1, times)]
        for i, frame in frames
        if i in wanted
    ]
    pixels, fine = (np.stack(canvases) for canvases in zip(*pairs, strict=True))
    return Mouths(pixels, points[at], lip_parameters(points, size)[at], fine if times > 1 else None)


def presence(score: Floats) -> Floats:
    """Return float32 (T,) in [0, 1]: 0 where the face is not seen, rising to 1 over a few frames from there."""
    if (score >= SURE).all():
        return np.ones(len(score), np.float32)
    away = np.asarray(distance_transform_edt(score >= SURE), np.float32)
    return np.minimum(away / APPEAR_FRAMES, 1)


def skipped(plan: Plan, chosen: Sequence[Track]) -> list[tuple[int, int]]:
    """Return the [start, stop) ranges of frames that no chosen face is seen in: they leave as they came."""
    painted = np.zeros(len(plan.seconds) + 2, bool)
    for track in chosen:
        painted[track.start + 1 : track.stop + 1] |= presence(track.score) > 0
    painted[[0, -1]] = True
    edges = np.flatnonzero(np.diff(painted.astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _plan(film: Film, options: DubOptions, on_progress: OnProgress | None) -> Plan:
    if options.plan is None:
        return scan_film(film, on_progress, box=options.box)
    plan = load_plan(options.plan)
    if (plan.width, plan.height) != (film.width, film.height) or plan.seconds != film.seconds:
        raise OptionError(f"{options.plan} is the plan of another film than {film.path}; scan it again")
    return plan


def _told(frames: Iterator[Frame], total: int, on_progress: OnProgress | None) -> Iterator[Frame]:
    for done, frame in enumerate(frames, 1):
        yield frame
        if on_progress and (done % PROGRESS_FRAMES == 0 or done == total):
            on_progress(Progress("dub", done, total))


def _beyond(changed: OutsideMask, method: Method) -> dict[str, Value]:
    """Return how like the film what was painted beyond the mouth is (dB), and by how much the worst sample is off."""
    return (
        {"beyond_mouth": changed.psnr(), "beyond_mouth_worst": changed.worst} if method.spec.composite == "none" else {}
    )


def _facts(plan: Plan, track: Track) -> dict[str, object]:
    size = np.median(track.boxes[:, 2:] - track.boxes[:, :2], axis=0).max()
    return {
        "name": track.name,
        "start": float(plan.seconds[track.start]),
        "stop": float(plan.seconds[track.stop - 1]),
        "frames": len(track),
        "hidden": int((track.score < SURE).sum()),
        "pixels": round(float(size)),
    }
