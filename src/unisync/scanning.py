"""The first pass over a film: shots, the faces tracked in them, each frame's exact time. One small file keeps it."""

from __future__ import annotations

import io
import json
import zipfile
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from unisync.errors import FaceError, MediaError, OptionError
from unisync.face.box import track_box
from unisync.face.detect import FaceModels, overlap
from unisync.face.shots import mark_cuts
from unisync.face.track import MIN_FACE, Tracker
from unisync.media.film import Film
from unisync.media.prefetch import prefetch
from unisync.media.probe import probe
from unisync.media.reader import read_frames
from unisync.types import Floats, Frame, OnProgress, Pixels, Plan, Progress, Shot, Track
from unisync.whole import whole

VERSION = 1
ARRAYS = ("landmarks", "boxes", "score", "speaking")
PROGRESS_FRAMES = 10
BACKWARDS_BYTES = 1 << 26  # frames held at a time to be looked at last to first
SAME_FACE = 0.3
SPEAKS = 0.15
THUMB, COLUMNS, CAPTION = 192, 6, 54


def scan_film(
    film: Film | str | Path,
    on_progress: OnProgress | None = None,
    *,
    box: str | None = None,
    min_face: int = MIN_FACE,
    models: FaceModels | None = None,
) -> Plan:
    """Return the film's shots and face tracks, named face1, face2, … by first appearance.

    box: "x,y,w,h@seconds", a region that is followed through its shot as box1.  min_face: in px.
    Whoever comes back in a later shot is a new track with a new name.
    """
    film = film if isinstance(film, Film) else probe(film)
    region = None if box is None else _parse_box(box, film)
    models = models or FaceModels()
    tracker, shots, seconds, start = Tracker(models, min_face), list[Shot](), list[Fraction](), 0
    for frame, cut in prefetch(mark_cuts(_shown(read_frames(film)))):
        if cut:
            shots.append(Shot(start, frame.index, tuple(tracker.finish())))
            start = frame.index
        tracker.feed(frame.pixels, frame.index, float(frame.seconds))
        seconds.append(frame.seconds)
        if on_progress and len(seconds) % PROGRESS_FRAMES == 0:
            on_progress(Progress("scan", len(seconds), len(film)))
    shots.append(Shot(start, len(seconds), tuple(tracker.finish())))
    if region is not None:
        shots = _with_box(film, models, shots, seconds, region)
    if on_progress:
        on_progress(Progress("scan", len(seconds), len(seconds)))
    return Plan(str(film.path), film.width, film.height, tuple(_named(shots)), tuple(seconds))


def save_plan(plan: Plan, path: str | Path) -> None:
    """Write the plan as one zip: plan.json, to be read and edited by people, and an array per track and quantity."""
    path = Path(path)
    about = {
        "version": VERSION,
        "film": plan.film,
        "width": plan.width,
        "height": plan.height,
        "seconds": [str(moment) for moment in plan.seconds],
        "shots": [
            {
                "start": shot.start,
                "stop": shot.stop,
                "tracks": [{"name": t.name, "start": t.start, "stop": t.stop} for t in shot.tracks],
            }
            for shot in plan.shots
        ],
    }

    with _written(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        file.writestr("plan.json", json.dumps(about, indent=1))
        for track in plan.tracks:
            for kind in ARRAYS:
                array = io.BytesIO()
                np.save(array, getattr(track, kind), allow_pickle=False)
                file.writestr(f"{track.name}/{kind}.npy", array.getvalue())


def load_plan(path: str | Path) -> Plan:
    """Read a plan. Raises MediaError for a file that is missing, damaged, or newer than this version."""
    try:
        with zipfile.ZipFile(path) as file:
            about = json.loads(file.read("plan.json"))
            if about["version"] > VERSION:
                raise MediaError(f"{path} was saved by a newer version of unisync; update it, or scan the film again.")
            shots = [
                Shot(shot["start"], shot["stop"], tuple(_load_track(file, track) for track in shot["tracks"]))
                for shot in about["shots"]
            ]
            seconds = tuple(Fraction(moment) for moment in about["seconds"])
            return Plan(about["film"], about["width"], about["height"], tuple(shots), seconds)
    except OSError as error:
        raise MediaError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, EOFError, ZeroDivisionError) as error:
        raise MediaError(f"{path} is not a plan, or is damaged; scan the film again.") from error


def choose(plan: Plan, spec: str) -> list[Track]:
    """Return the tracks that `spec` asks for, in film order.

    spec: "all"; "largest" or "speaking" (in each shot the one); names with commas between; or a point "x,y@seconds".
    Raises FaceError where there is no such face, OptionError for a point that cannot be read.
    """
    spec = spec.strip()
    if not plan.tracks:
        raise FaceError(f"no face was found in {plan.film}; point at one with --box x,y,w,h@seconds.")
    if spec == "all":
        return list(plan.tracks)
    if spec == "largest":
        return [track for shot in plan.shots for track in _best(shot, _size)]
    if spec == "speaking":
        found = [t for shot in plan.shots for t in _best(shot, lambda t: float(t.speaking.mean())) if _speaks(t)]
        return found or _no_face(plan, "nobody seems to speak")
    if "@" in spec:
        return [_at_point(plan, spec)]
    names = [name.strip() for name in spec.split(",")]
    known = {track.name for track in plan.tracks}
    for name in names:
        if name not in known:
            _no_face(plan, f"there is no face named {name!r}")
    return [track for track in plan.tracks if track.name in names]


def contact_sheet(plan: Plan, path: str | Path, film: Film | None = None) -> None:
    """Write a picture (.png or .jpg, by the name) of all tracks: their middle frame, name, times and size in px."""
    film = film or probe(plan.film)
    tracks = sorted(plan.tracks, key=lambda track: (track.start + track.stop) // 2)
    cells = [_cell(plan, track, frame) for track, frame in _middle_frames(film, tracks)]
    cells = cells or [np.full((THUMB + CAPTION, THUMB, 3), 40, np.uint8)]
    cells += [np.zeros_like(cells[0])] * (-len(cells) % min(COLUMNS, len(cells)))
    wide = min(COLUMNS, len(cells))
    sheet = np.vstack([np.hstack(cells[i : i + wide]) for i in range(0, len(cells), wide)])
    kind = ".jpg" if Path(path).suffix.lower() in (".jpg", ".jpeg") else ".png"
    _, data = cv2.imencode(kind, cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    with _written(Path(path)) as part:
        part.write_bytes(data.tobytes())


def _shown(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Turn frames into RGB where they are read."""
    for frame in frames:
        _ = frame.pixels
        yield frame


def _named(shots: list[Shot]) -> Iterator[Shot]:
    number = 0
    for shot in shots:
        tracks = []
        for track in shot.tracks:
            if not track.name:
                number += 1
            tracks.append(track if track.name else replace(track, name=f"face{number}"))
        yield replace(shot, tracks=tuple(tracks))


def _with_box(
    film: Film, models: FaceModels, shots: list[Shot], seconds: list[Fraction], region: tuple[Floats, Fraction]
) -> list[Shot]:
    """Add the track of a region given by hand; it takes the place of what was found there."""
    box, moment = region
    index = max(0, bisect_right(seconds, moment) - 1)
    at = next(i for i, shot in enumerate(shots) if shot.start <= index < shot.stop)
    shot = shots[at]
    before = _backwards(film, shot.start, index)
    track = track_box(models, box, prefetch(read_frames(film, index, shot.stop)), before, "box1")
    kept = tuple(other for other in shot.tracks if not _together(track, other))
    ordered = sorted((*kept, track), key=lambda t: (t.start, float(t.boxes[0, 0])))
    return [*shots[:at], replace(shot, tracks=tuple(ordered)), *shots[at + 1 :]]


def _together(a: Track, b: Track) -> bool:
    """Return whether two tracks lie on one face somewhere."""
    return any(
        overlap(a.boxes[i - a.start], b.boxes[i - b.start]) > SAME_FACE
        for i in range(max(a.start, b.start), min(a.stop, b.stop))
    )


def _backwards(film: Film, start: int, stop: int) -> Iterator[Frame]:
    block = max(4, BACKWARDS_BYTES // (3 * film.width * film.height))
    while stop > start:
        first = max(start, stop - block)
        yield from reversed(list(read_frames(film, first, stop)))
        stop = first


def _parse_box(spec: str, film: Film) -> tuple[Floats, Fraction]:
    numbers, moment = _parse_place(spec, 4, "--box", "x,y,w,h@seconds")
    x, y, width, height = numbers
    if width < 8 or height < 8 or x < 0 or y < 0 or x + width > film.width or y + height > film.height:
        raise OptionError(f"--box {spec}: the box must be 8 px or more each way and lie in {film.width}x{film.height}.")
    if not 0 <= moment <= film.duration:
        raise OptionError(
            f"--box {spec}: {film.path} has no second {float(moment):g}, it lasts {float(film.duration):.2f}."
        )
    return np.array([x - 0.5, y - 0.5, x + width - 0.5, y + height - 0.5], np.float32), moment


def _parse_place(spec: str, count: int, option: str, form: str) -> tuple[list[float], Fraction]:
    place, _, moment = spec.partition("@")
    try:
        numbers = [float(number) for number in place.split(",")]
        at = Fraction(moment.strip() or "0")
    except (ValueError, ZeroDivisionError):
        numbers, at = [], Fraction(0)
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise OptionError(f"{option} {spec}: expected {form}, in pixels of the upright picture.")
    return numbers, at


def _load_track(file: zipfile.ZipFile, about: dict[str, str | int]) -> Track:
    arrays = {}
    for kind in ARRAYS:
        array = np.load(io.BytesIO(file.read(f"{about['name']}/{kind}.npy")), allow_pickle=False)
        arrays[kind] = array.astype(np.float32, copy=False)
    return Track(str(about["name"]), int(about["start"]), int(about["stop"]), **arrays)


@contextmanager
def _written(path: Path) -> Iterator[Path]:
    """Lend a private name, as `whole` does. Raises MediaError where the file cannot be written."""
    try:
        with whole(path) as part:
            yield part
    except OSError as error:
        raise MediaError(f"{path} cannot be written: {error.strerror or error}.") from error


def _size(track: Track) -> float:
    return float(np.median(track.boxes[:, 2:] - track.boxes[:, :2], axis=0).max())


def _speaks(track: Track) -> bool:
    return float(track.speaking.mean()) >= SPEAKS


def _best(shot: Shot, merit: Callable[[Track], float]) -> list[Track]:
    """Return the shot's best track, and others nearly as good for the time when it is not there."""
    taken: list[Track] = []
    for track in sorted(shot.tracks, key=lambda t: -merit(t) * len(t) ** 0.25):
        free = all(track.stop <= other.start or other.stop <= track.start for other in taken)
        if free and (not taken or merit(track) >= 0.6 * merit(taken[0])):
            taken.append(track)
    return sorted(taken, key=lambda t: t.start)


def _at_point(plan: Plan, spec: str) -> Track:
    (x, y), moment = _parse_place(spec, 2, "--face", "x,y@seconds")
    index = max(0, bisect_right(plan.seconds, moment) - 1)
    here = []
    for track in plan.tracks:
        if track.start <= index < track.stop:
            box = track.boxes[index - track.start]
            rim = 0.1 * (box[2:] - box[:2])
            if (box[:2] - rim <= (x, y)).all() and ((x, y) <= box[2:] + rim).all():
                here.append((float(np.hypot(*((box[:2] + box[2:]) / 2 - (x, y)))), track))
    if not here:
        _no_face(plan, f"there is no face at {spec}")
    return min(here, key=lambda item: item[0])[1]


def _no_face(plan: Plan, what: str) -> list[Track]:
    """Raise FaceError naming the faces there are, at most twenty."""
    names = [f"{t.name} ({_clock(plan, t)})" for t in plan.tracks[:20]]
    more = f" and {len(plan.tracks) - 20} more" if len(plan.tracks) > 20 else ""
    raise FaceError(f"{plan.film}: {what}; choose all, largest, speaking, a point, or of: {', '.join(names)}{more}.")


def _clock(plan: Plan, track: Track) -> str:
    return f"{float(plan.seconds[track.start]):.1f}-{float(plan.seconds[track.stop - 1]):.1f} s"


def _middle_frames(film: Film, tracks: list[Track]) -> Iterator[tuple[Track, Frame]]:
    frame: Frame | None = None
    for track in tracks:
        middle = (track.start + track.stop) // 2
        if frame is None or frame.index != middle:
            frame = next(iter(read_frames(film, middle, middle + 1)))
        yield track, frame


def _cell(plan: Plan, track: Track, frame: Frame) -> Pixels:
    """Return a thumbnail with its caption, uint8 (THUMB + CAPTION, THUMB, 3)."""
    box = track.boxes[frame.index - track.start]
    side = float((box[2:] - box[:2]).max())
    zoom = THUMB / (1.6 * side)
    shift = THUMB / 2 - zoom * (box[:2] + box[2:]) / 2
    matrix = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]], np.float64)
    how = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    thumb = cv2.warpAffine(frame.pixels, matrix, (THUMB, THUMB), flags=how)
    caption = np.full((CAPTION, THUMB, 3), 40, np.uint8)
    speaks = f"{side:.0f} px, speaks {100 * float(track.speaking.mean()):.0f} %"
    for row, text in enumerate((track.name, _clock(plan, track), speaks)):
        cv2.putText(caption, text, (6, 15 + 16 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (235,) * 3, 1, cv2.LINE_AA)
    return np.vstack([thumb, caption]).astype(np.uint8)
