"""A face that no detector sees (a drawing, an animal, a puppet): a region given by hand, followed through its shot.

Its landmarks come from the mesh where the mesh believes in it, else from a drawn face laid into the region.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from unisync.face.align import crop, transform
from unisync.face.detect import FaceModels, Roi, overlap, roi_from_landmarks
from unisync.face.speaker import speaking
from unisync.face.track import box_of, looks_like_a_face
from unisync.types import Floats, Frame, Pixels, Track

SIZE = 128  # the side of the pictures that are compared
MARGIN = 0.15  # of the region's side, around it
MIN_INLIERS, MIN_SHARE = 8, 0.35
MESH_SHARE = 0.8  # of the frames in which the mesh must see a face to be used
PRESENT = 0.5

Matrix = NDArray[np.float64]


class BoxFollower:
    """Follows what lies in a box (4,) px left, top, right, bottom from one frame to the next."""

    def __init__(self, pixels: Pixels, box: Floats) -> None:
        side = float(max(box[2] - box[0], box[3] - box[1])) * (1 + 2 * MARGIN)
        zoom = SIZE / side
        centre = (box[:2] + box[2:]) / 2
        self._matrix = np.hstack([np.eye(2) * zoom, (SIZE / 2 - 0.5 - centre * zoom)[:, None]])  # frame -> picture
        self._start = self._matrix
        self._first = self._last = self._view(pixels)
        low, high = box[:2] * zoom + self._matrix[:, 2], box[2:] * zoom + self._matrix[:, 2]
        self._mask = np.zeros((SIZE, SIZE), np.uint8)
        middle, half = (low + high) / 2, (high - low) / 2
        cv2.ellipse(self._mask, _pair(middle), _pair(half), 0, 0, 360, 255, -1)  # a box's corners are background

    def feed(self, pixels: Pixels) -> Matrix | None:
        """Return float64 (2, 3), from the first frame's px to this frame's; None where the region is lost."""
        view = self._view(pixels)
        step, kept = self._step(self._last, view), None
        if self._first is not self._last:
            kept = self._step(self._first, view)
        # by the first picture errors do not add up, by the last one a turned face is better known
        if kept is not None and (step is None or self._alike(view, kept) > self._alike(view, step)):
            step = kept
        if step is None:
            step = self._shift(pixels)
        if step is None:
            return None
        self._matrix = _after(self._matrix, _inverse(step))
        self._last = self._view(pixels)
        return _after(self._start, _inverse(self._matrix))

    def _view(self, pixels: Pixels, size: int = SIZE, matrix: Matrix | None = None) -> Pixels:
        canvas = crop(pixels, np.asarray(self._matrix if matrix is None else matrix, np.float32), size)
        return np.asarray(cv2.cvtColor(canvas, cv2.COLOR_RGB2GRAY), np.uint8)

    def _step(self, old: Pixels, new: Pixels) -> Matrix | None:
        """Return the similarity that takes `old` to `new` by optical flow there and back, None if few points agree."""
        points = cv2.goodFeaturesToTrack(old, 150, 0.01, 4, mask=self._mask)
        if points is None or len(points) < MIN_INLIERS:
            return None
        points = np.asarray(points, np.float32)
        there, found, _ = cv2.calcOpticalFlowPyrLK(old, new, points, np.empty_like(points))
        back, again, _ = cv2.calcOpticalFlowPyrLK(new, old, there, np.empty_like(points))
        alive = np.logical_and(found, again).ravel()
        good = alive & (np.linalg.norm(np.subtract(back, points), axis=2).ravel() < 1.0)
        if good.sum() < MIN_INLIERS:
            return None
        step, inliers = cv2.estimateAffinePartial2D(points[good], there[good], ransacReprojThreshold=1.5)
        if step is None or inliers.sum() < max(MIN_INLIERS, MIN_SHARE * len(points)):
            return None
        zoom = float(np.sqrt(abs(np.linalg.det(step[:, :2]))))
        return np.asarray(step, np.float64) if 0.7 < zoom < 1.4 else None

    def _alike(self, view: Pixels, step: Matrix) -> float:
        """Return the correlation of the first picture with the new one as `step` lays it."""
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        moved = cv2.warpAffine(view, step, (SIZE, SIZE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        inside = self._mask > 0
        return float(np.corrcoef(self._first[inside], np.asarray(moved)[inside])[0, 1])

    def _shift(self, pixels: Pixels) -> Matrix | None:
        """Return the shift that takes the last picture to where it is found again, for pictures without corners."""
        wide = self._matrix.copy()
        wide[:, 2] += SIZE / 2
        score = cv2.matchTemplate(self._view(pixels, 2 * SIZE, wide), self._last, cv2.TM_CCOEFF_NORMED)
        _, best, _, place = cv2.minMaxLoc(np.nan_to_num(score))
        if best < 0.6:
            return None
        return np.array([[1, 0, place[0] - SIZE / 2], [0, 1, place[1] - SIZE / 2]], np.float64)


def track_box(models: FaceModels, box: Floats, after: Iterable[Frame], before: Iterable[Frame], name: str) -> Track:
    """Return the track of a region (4,) px within its shot; the score is 1 all along.

    after: from the frame in which the box was drawn to the shot's end.  before: from the frame before that one back to
    the shot's start.  The track ends where the region is lost.
    """
    places: dict[int, tuple[float, Matrix, Floats | None]] = {}
    first: Frame | None = None
    roi: Roi | None = None
    for stream in (after, before):
        follower = None if first is None else BoxFollower(first.pixels, box)
        for frame in stream:
            moved: Matrix | None = np.eye(2, 3)
            if follower is None:
                first, follower = frame, BoxFollower(frame.pixels, box)
            else:
                moved = follower.feed(frame.pixels)
            if moved is None or not _visible(box, moved, frame.picture.size):
                break
            mesh = _mesh(models, frame.pixels, transform(_corners(box), np.asarray(moved, np.float32)), roi)
            roi = None if mesh is None else roi_from_landmarks(mesh)
            places[frame.index] = (float(frame.seconds), moved, mesh)
        roi = None
    return _assemble(models, box, places, name)


def drawn_face(size: int) -> Pixels:
    """Return a frontal face with closed lips as a picture, uint8 (size, size, 3) RGB."""
    picture = np.full((768, 768, 3), (190, 200, 210), np.uint8)

    def oval(
        x: int, y: int, w: int, h: int, colour: tuple[int, int, int], arc: tuple[int, int] = (0, 360), line: int = -1
    ) -> None:
        cv2.ellipse(picture, (x, y), (w, h), 0, arc[0], arc[1], colour, line, cv2.LINE_AA)

    oval(384, 384, 190, 250, (224, 180, 150))
    for side in (-1, 1):
        eye = 384 + side * 80
        oval(eye, 330, 36, 16, (250, 250, 250))
        oval(eye, 330, 15, 15, (70, 45, 30))
        oval(eye, 330, 36, 16, (60, 40, 30), (180, 360), 4)
        oval(eye, 296, 48, 18, (70, 45, 30), (200, 340), 10)
        oval(384 + side * 18, 430, 9, 6, (150, 100, 80))
        cv2.line(picture, (384 + side * 24, 340), (384 + side * 32, 415), (205, 160, 130), 4, cv2.LINE_AA)
    oval(384, 435, 34, 16, (170, 120, 100), (20, 160), 4)
    oval(384, 500, 64, 14, (200, 110, 105))
    cv2.line(picture, (322, 500), (446, 500), (150, 75, 75), 2, cv2.LINE_AA)
    oval(384, 250, 195, 140, (60, 40, 30), (180, 360))
    smooth = cv2.GaussianBlur(picture, (0, 0), 2)
    return np.asarray(cv2.resize(smooth, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


def drawn_landmarks(models: FaceModels) -> Floats:
    """Return where the mesh lies on the drawn face, made symmetric: float32 (468, 2), its box being [0, 1] × [0, 1]."""
    points, _ = models.mesh(drawn_face(384), Roi(191.5, 199.5, 375, 0.0))
    low, high = points.min(0), points.max(0)
    points = (points - low) / (high - low)
    mirrored = np.asarray((1, 0), np.float32) + points * np.asarray((-1, 1), np.float32)
    twin = np.linalg.norm(points[:, None] - mirrored[None], axis=2).argmin(1)
    points = (points + mirrored[twin]) / 2
    low, high = points.min(0), points.max(0)
    return np.asarray((points - low) / (high - low), np.float32)


def _assemble(
    models: FaceModels, box: Floats, places: dict[int, tuple[float, Matrix, Floats | None]], name: str
) -> Track:
    order = sorted(places)
    seconds = np.array([places[i][0] for i in order])
    meshes = [places[i][2] for i in order]
    seen = np.array([mesh is not None for mesh in meshes])
    if seen.mean() >= MESH_SHARE:
        known = np.stack([mesh for mesh in meshes if mesh is not None]).reshape(int(seen.sum()), -1)
        at = np.flatnonzero(seen)
        filled = [np.interp(np.arange(len(order)), at, known[:, i]) for i in range(known.shape[1])]
        landmarks = np.asarray(np.stack(filled, axis=1).reshape(len(order), -1, 2), np.float32)
    else:
        drawn = box[:2] + drawn_landmarks(models) * (box[2:] - box[:2])
        landmarks = np.stack([transform(drawn, np.asarray(places[i][1], np.float32)) for i in order])
    ones = np.ones(len(order), np.float32)
    return Track(name, order[0], order[-1] + 1, landmarks, box_of(landmarks), ones, speaking(landmarks, seconds))


def _mesh(models: FaceModels, pixels: Pixels, corners: Floats, roi: Roi | None) -> Floats | None:
    """Return the mesh of a face that fills the region `corners` (4, 2), None if there is none."""
    low, high = corners.min(0), corners.max(0)
    centre, side = (low + high) / 2, float((high - low).max())
    region = np.concatenate([low, high])
    rois = [Roi(float(centre[0]), float(centre[1]), side * scale, 0.0) for scale in (1.5, 1.2)]
    for guess in [roi, *rois] if roi else rois:
        landmarks, presence = models.mesh(pixels, guess)
        fits = overlap(np.asarray(box_of(landmarks), np.float32), np.asarray(region, np.float32)) > 0.5
        if presence > PRESENT and fits and looks_like_a_face(landmarks, 8, pixels.shape[:2]):
            return landmarks
    return None


def _visible(box: Floats, moved: Matrix, frame: tuple[int, int]) -> bool:
    """Return whether half of the region still lies in the frame."""
    corners = transform(_corners(box), np.asarray(moved, np.float32))
    low, high = corners.min(0), corners.max(0)
    shown = np.clip(high, 0, frame) - np.clip(low, 0, frame)
    return float(shown.prod()) >= 0.5 * float((high - low).prod())


def _corners(box: Floats) -> Floats:
    return np.asarray([(box[0], box[1]), (box[2], box[1]), (box[2], box[3]), (box[0], box[3])], np.float32)


def _after(first: Matrix, second: Matrix) -> Matrix:
    """Return the (2, 3) matrix that applies `first`, then `second`."""
    return np.hstack([second[:, :2] @ first[:, :2], (second[:, :2] @ first[:, 2] + second[:, 2])[:, None]])


def _inverse(matrix: Matrix) -> Matrix:
    return np.asarray(cv2.invertAffineTransform(matrix), np.float64)


def _pair(point: Matrix) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))
