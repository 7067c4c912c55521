"""What a film is like: the measures by which a suite is arranged. A film is scanned once and read once more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from unisync.face.align import yaw_degrees
from unisync.face.detect import FaceModels
from unisync.media import probe, read_frames
from unisync.scanning import choose, scan_film
from unisync.types import Floats, Frame, OnProgress, Pixels, Plan, Track

LOOKS_PER_SECOND = 4
"""Frames a second that light and the camera are measured in: faces change their light slowly, cameras travel slowly."""
GREY = 180
"""The shorter side of the pictures that the camera's motion is measured in, px."""
SKIN_SIDE = 64
"""The longer side of the pictures that light is measured in, px."""
SKIN = (117, 123, 50, 205, 425, 280, 352, 346, 197)
"""Points around the cheeks and the nose, where neither hair nor beard nor brows are: there light is measured."""
BODY = 2.0
"""How far arms reach beyond the face to both sides, in widths of the face."""
NUM_POINTS, MIN_POINTS = 200, 8
CORNER = 1e-4
"""The smaller eigenvalue at a corner that is followed: the noise of a blank wall is measured at 2e-5, paper at 2e-3."""
STANDS_STILL = 0.3
"""What moves less than this many px of a small picture stands still."""
STANDING = 0.3
"""A camera stands if this share of what it sees beside people stands still: whatever else moves there is not the camera."""
SPREAD = 0.5
"""The share of the picture's width or height over which the points must lie: a hand in one place is no camera."""
AGREE = 0.5
"""The share of points that one motion of the camera must explain; below it nothing is said of that moment."""
WIDEST = 98
"""The percentile of turns that counts as the largest: the mesh is mistaken now and then."""


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What was measured of a film; of its faces those that are dubbed unless one asks for others, the largest of each shot.

    rate: frames a second.  seen: share of frames with a face.  faces: the most at once.  face_px: the longer side of the
    face's box, median.  luminance: luma of the face's skin, median, 0 to 1.  contrast: between its bright and its dark
    parts, shadows rather than features, 0 to 1.  yaw, widest_yaw: how far the face is turned to either
    side, degrees, median and largest.  camera: motion of what lies beside people, in percent of the picture's height a
    second, on average; 0 where nothing there can be followed.  cuts: a minute.  Without a face its measures are 0.
    """

    film: Path
    width: int
    height: int
    rate: float
    seconds: float
    has_sound: bool
    seen: float
    faces: int
    face_px: float
    luminance: float
    contrast: float
    yaw: float
    widest_yaw: float
    camera: float
    cuts: float


def measure(path: Path, on_progress: OnProgress | None = None, *, models: FaceModels | None = None) -> Traits:
    """Return a film's or a still's traits; memory does not grow with its length.

    on_progress: told of the scan.  Raises MediaError for what cannot be read.
    """
    film = probe(path)
    plan = scan_film(film, on_progress, models=models)
    num = len(plan.seconds)
    there = np.zeros(num, int)
    for track in plan.tracks:
        there[track.start : track.stop] += 1
    tracks = choose(plan, "largest") if plan.tracks else []
    turns = np.concatenate([np.abs(yaw_degrees(track.landmarks)) for track in tracks]) if tracks else np.zeros(1)
    sides = [(track.boxes[:, 2:] - track.boxes[:, :2]).max(1) for track in tracks] or [np.zeros(1)]
    lights, paces = list[tuple[float, float]](), list[float]()
    before: _View | None = None
    for last, frame in _looks(read_frames(film, 0, num)):
        lights += [light for track in tracks if (light := _light(frame, track)) is not None]
        view = _view(frame, plan)
        if before is not None and last is not None and before.shot == view.shot:
            pace = _pace(before, view)
            if pace is None:  # too fast to be followed from look to look
                pace = _pace(_view(last, plan), view)
            paces += [] if pace is None else [pace]
        before = view
    luminance, contrast = np.median(lights, axis=0) if lights else (0.0, 0.0)
    seconds = float(film.duration)
    return Traits(
        film=path,
        width=film.width,
        height=film.height,
        rate=float(film.rate),
        seconds=seconds,
        has_sound=film.has_sound,
        seen=float((there > 0).mean()),
        faces=int(there.max()),
        face_px=float(np.median(np.concatenate(sides))),
        luminance=float(luminance),
        contrast=float(contrast),
        yaw=float(np.median(turns)),
        widest_yaw=float(np.percentile(turns, WIDEST)),
        camera=float(np.mean(paces)) if paces else 0.0,
        cuts=60 * (len(plan.shots) - 1) / seconds,
    )


def face_light(pixels: Pixels, landmarks: Floats) -> tuple[float, float] | None:
    """Return the median luma of a face's skin and its contrast, both 0 to 1; None where it hardly lies in the picture.

    contrast: of its 95th and 5th percentiles, their difference over their sum, small things blurred away.
    """
    points = landmarks[list(SKIN)]
    limit = np.array([pixels.shape[1], pixels.shape[0]])
    low = np.clip(np.floor(points.min(0)), 0, limit).astype(int)
    high = np.clip(np.ceil(points.max(0)) + 1, 0, limit).astype(int)
    if (high - low).min() < 4:
        return None
    view = pixels[low[1] : high[1], low[0] : high[0]]
    zoom = min(1.0, SKIN_SIDE / max(view.shape[:2]))
    small = cv2.resize(view, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
    luma = np.asarray(small.astype(np.float32) @ np.array([0.2126, 0.7152, 0.0722], np.float32) / 255, np.float32)
    mask = np.zeros(luma.shape, np.float32)
    cv2.fillConvexPoly(mask, cv2.convexHull(np.round((points - low) * zoom).astype(np.int32)), 1.0)
    inside = mask > 0
    if inside.sum() < 8:
        return None
    sigma = max(luma.shape) / 16  # pores, spots and rims of glasses are smaller
    soft = cv2.GaussianBlur(luma * mask, (0, 0), sigma) / np.maximum(cv2.GaussianBlur(mask, (0, 0), sigma), 1e-6)
    dark, bright = np.percentile(soft[inside], [5, 95])
    return float(np.median(luma[inside])), float((bright - dark) / max(bright + dark, 1e-3))


def camera_pace(old: Pixels, new: Pixels, free: Pixels) -> float | None:
    """Return how far the camera moved between two grey pictures, in picture heights; None where nobody can say.

    free: uint8 (H, W), 255 where no people are.  Zooming and turning count as far as they move the picture's points.
    """
    found = cv2.goodFeaturesToTrack(old, NUM_POINTS, 0.01, 5, mask=free)
    if found is None:
        return None
    x, y = np.asarray(found, int).reshape(-1, 2).T
    points = np.asarray(found, np.float32)[cv2.cornerMinEigenVal(old, 3)[y, x] > CORNER]
    if len(points) < MIN_POINTS:
        return None
    there, seen, _ = cv2.calcOpticalFlowPyrLK(old, new, points, np.empty_like(points))
    back, again, _ = cv2.calcOpticalFlowPyrLK(new, old, there, np.empty_like(points))
    alive = np.logical_and(seen, again).ravel()
    good = alive & (np.linalg.norm(np.subtract(back, points), axis=2).ravel() < 1.0)
    if good.sum() < MIN_POINTS:
        return None
    moved = np.linalg.norm(np.subtract(there, points)[good], axis=2).ravel()
    if (moved < STANDS_STILL).sum() >= STANDING * len(points):
        return 0.0
    step, inliers = cv2.estimateAffinePartial2D(points[good], there[good], ransacReprojThreshold=1.5)
    height, width = old.shape
    if step is None or inliers.sum() < AGREE * good.sum():
        return None
    spread = np.ptp(points[good][inliers.ravel() > 0].reshape(-1, 2), axis=0) / (width, height)
    if spread.max() < SPREAD:
        return None
    grid = np.stack(np.meshgrid(np.linspace(0, width, 3), np.linspace(0, height, 3)), -1).reshape(-1, 2)
    return float(np.linalg.norm(grid @ step[:, :2].T + step[:, 2] - grid, axis=1).mean() / height)


@dataclass(frozen=True, eq=False)
class _View:
    """A small grey picture, where nobody is in it, when it is, and in which shot."""

    grey: Pixels
    free: Pixels
    seconds: float
    shot: int


def _looks(frames: Iterator[Frame]) -> Iterator[tuple[Frame | None, Frame]]:
    """Yield the first frame of every so many seconds, after the one right before it."""
    due, last = 0, None
    for frame in frames:
        if frame.seconds * LOOKS_PER_SECOND >= due:
            due = int(frame.seconds * LOOKS_PER_SECOND) + 1
            yield last, frame
        last = frame


def _pace(old: _View, new: _View) -> float | None:
    """Return the camera's pace between two pictures of one shot, in percent of their height a second."""
    moved = camera_pace(old.grey, new.grey, old.free)
    return None if moved is None else 100 * moved / (new.seconds - old.seconds)


def _light(frame: Frame, track: Track) -> tuple[float, float] | None:
    if not track.start <= frame.index < track.stop:
        return None
    return face_light(frame.pixels, track.landmarks[frame.index - track.start])


def _view(frame: Frame, plan: Plan) -> _View:
    width, height = frame.picture.size
    zoom = GREY / min(width, height)
    size = (round(width * zoom), round(height * zoom))
    grey = cv2.resize(cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
    shot = next(i for i, each in enumerate(plan.shots) if frame.index < each.stop)
    boxes = [t.boxes[frame.index - t.start] for t in plan.shots[shot].tracks if t.start <= frame.index < t.stop]
    return _View(np.asarray(grey, np.uint8), _free((size[1], size[0]), boxes, zoom), float(frame.seconds), shot)


def _free(shape: tuple[int, int], boxes: Sequence[Floats], zoom: float) -> Pixels:
    """Return uint8 `shape`, 255 where no head (hair above it, too) and no body below one is."""
    free = np.full(shape, 255, np.uint8)
    for left, top, right, bottom in (box * zoom for box in boxes):
        wide, high = right - left, bottom - top
        head = [left - 0.25 * wide, top - 0.4 * high, right + 0.25 * wide, bottom + 0.2 * high]
        body = [left - BODY * wide, bottom - 0.1 * high, right + BODY * wide, shape[0]]
        for x0, y0, x1, y1 in (np.maximum(np.round(part), 0).astype(int) for part in (head, body)):
            free[y0:y1, x0:x1] = 0
    return free
