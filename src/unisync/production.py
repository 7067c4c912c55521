"""What is settled before a frame is painted: who says what, how long film and sound are, and whether it can be done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt

from unisync.errors import OptionError
from unisync.media.encode import EncodeOptions, check_out
from unisync.media.film import Film, cut, extend
from unisync.media.probe import probe
from unisync.media.provenance import Origin, find_signer
from unisync.media.sound import Speech, read_sound
from unisync.methods.base import Method
from unisync.methods.windows import num_windows
from unisync.options import DubOptions
from unisync.registry import load
from unisync.scanning import choose, load_plan, scan_film
from unisync.types import Floats, OnProgress, Plan, Progress, Sound, Track

SAME_LENGTH_SECONDS = 0.1
"""Films and speeches that differ by less than this count as equally long."""
SURE = 0.5
APPEAR_FRAMES = 3
"""Frames over which a patch comes and goes where its face is hidden for a while."""


@dataclass(frozen=True, eq=False)
class Production:
    """All that is settled before the first frame is painted.

    source: the film, as long as it will be.  cast: what each chosen track says, and from which file.
    speech: how the sound is written, whose path is another one where it is the sum of several `files`.
    origin: what the film is to say of its making.
    """

    source: Film
    out: Path
    options: DubOptions
    plan: Plan
    cast: Mapping[str, tuple[Sound, Path]]
    files: tuple[Path, ...]
    speech: Speech
    method: Method
    warnings: list[str]
    origin: Origin | None

    @property
    def chosen(self) -> list[Track]:
        """The tracks that are painted, in film order."""
        return [track for track in self.plan.tracks if track.name in self.cast]

    @property
    def encode(self) -> EncodeOptions:
        return EncodeOptions(self.options.codec, self.options.crf, self.options.preset)


def settle(
    film: Path,
    speech: Path | None,
    out: Path,
    options: DubOptions,
    on_progress: OnProgress | None = None,
    speeches: Mapping[str, Path] | None = None,
) -> Production:
    """Look at everything and paint nothing; the arguments are those of `dub_film`. Raises UnisyncError."""
    speeches = speeches or {}
    files = tuple(dict.fromkeys(path for path in (speech, *speeches.values()) if path is not None))
    if not files:
        raise OptionError("nothing is said: name a SPEECH, or --speak NAME=FILE for each face")
    encode = EncodeOptions(options.codec, options.crf, options.preset)
    source = probe(film)
    if options.preview is not None and not Path(options.preview).absolute().parent.is_dir():
        raise OptionError(
            f"{options.preview}: the preview cannot be written there; name a file in a folder that exists"
        )
    for path in files:
        check_out(out, source, path, encode)
    signer = find_signer(options.c2pa_cert, options.c2pa_key) if options.provenance else None
    sounds = [read_sound(path) for path in files]
    longest = max(len(sound.samples) for sound in sounds) / sounds[0].rate
    fitted = [fit(source, sound.cut(0, longest), files[0], options) for sound in sounds]
    source, _, track, warnings = fitted[0]
    with ThreadPoolExecutor(1, "method") as aside:  # what paints is loaded while the film is looked at
        coming: Future[Method] = aside.submit(copy_context().run, lambda: load("method", options.method)(options))

        def told(progress: Progress) -> None:
            if coming.done():
                coming.result()  # where there is none, the rest of the film need not be looked at
            if on_progress:
                on_progress(progress)

        plan, method = plan_of(source, options, told), coming.result()
    said = dict(zip(files, (each[1] for each in fitted), strict=True))
    cast = {name: (said[path], path) for name, path in cast_faces(plan, options, speech, speeches).items()}
    origin = Origin(options.method, method.spec.paints, signer) if options.provenance else None
    return Production(source, out, options, plan, cast, files, track, method, warnings, origin)


def cast_faces(plan: Plan, options: DubOptions, speech: Path | None, speeches: Mapping[str, Path]) -> dict[str, Path]:
    """Return which file each chosen track speaks: its own speech, or else, where it is chosen, `speech`.

    Raises FaceError for a face that is not there, OptionError where one is to say two things or `speech` has no face.
    """
    cast: dict[str, Path] = {}
    for spec, path in speeches.items():
        for track in choose(plan, spec):
            if track.name in cast:
                raise OptionError(f"{track.name} is to speak both {cast[track.name]} and {path}: name every face once")
            cast[track.name] = path
    if speech is not None:
        face = "box1" if options.box else options.face
        rest = {track.name: speech for track in choose(plan, face) if track.name not in cast}
        if not rest:
            raise OptionError(f"{speech} has no face left that speaks it: choose others by --face, or leave it out")
        cast |= rest
    return cast


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


def outline(production: Production) -> dict[str, Any]:
    """Return what would be done, as plain numbers and words: nothing is painted. frames, windows: to be painted."""
    spec, chosen = production.method.spec, production.chosen
    tracks = [
        facts_of(production.plan, track)
        | {"speech": str(production.cast[track.name][1]), "windows": num_windows(len(track), spec)}
        for track in chosen
    ]
    return {
        "film": str(production.source.path),
        "out": str(production.out),
        "frames": len(production.source),
        "seconds": float(production.source.duration),
        "shots": len(production.plan.shots),
        "found": [track.name for track in production.plan.tracks],
        "tracks": tracks,
        "painted_frames": sum(map(len, chosen)),
        "windows": sum(track["windows"] for track in tracks),
        "skipped": skipped(production.plan, chosen),
        "method": production.options.method,
        "warnings": production.warnings,
    }


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


def plan_of(film: Film, options: DubOptions, on_progress: OnProgress | None = None) -> Plan:
    """Return the plan that the options name, or look at the film. Raises OptionError for another film's plan."""
    if options.plan is None:
        return scan_film(film, on_progress, box=options.box)
    plan = load_plan(options.plan)
    if (plan.width, plan.height) != (film.width, film.height) or plan.seconds != film.seconds:
        raise OptionError(f"{options.plan} is the plan of another film than {film.path}; scan it again")
    return plan


def facts_of(plan: Plan, track: Track) -> dict[str, Any]:
    """Return what a report says of a track: times in seconds, its face's size in px."""
    size = np.median(track.boxes[:, 2:] - track.boxes[:, :2], axis=0).max()
    return {
        "name": track.name,
        "start": float(plan.seconds[track.start]),
        "stop": float(plan.seconds[track.stop - 1]),
        "frames": len(track),
        "hidden": int((track.score < SURE).sum()),
        "pixels": round(float(size)),
    }
