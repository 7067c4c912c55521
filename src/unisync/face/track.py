"""Every face followed through its shot: detectors find it now and then, the mesh follows it in every frame.

Landmarks stay as the mesh gives them (only short gaps are filled): smoothing would close the lips.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from unisync.face.detect import Detection, FaceModels, Roi, overlap, roi_from_detection, roi_from_landmarks
from unisync.face.speaker import speaking
from unisync.types import Floats, Pixels, Track

MIN_FACE = 24
"""Faces smaller than this, in px, are left alone."""
LOOK_SECONDS = 0.12  # how often the whole frame is searched
TILES_SECONDS = 0.5  # how often its quarters are searched for small faces
GAP_SECONDS = 0.4  # a face hidden for longer becomes another track
SHORTEST_SECONDS = 0.3
UNSEEN_SECONDS = 1.5  # the mesh alone is believed for so long, unless it is very sure
PRESENT, SURE = 0.5, 0.9
SAME_FACE = 0.4  # overlap of two boxes


@dataclass(eq=False)
class _Live:
    """A track in the making; frames where the face was lost are simply not listed."""

    indices: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    landmarks: list[Floats] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    seen: float = 0.0  # when a detector saw it last

    @property
    def box(self) -> Floats:
        return box_of(self.landmarks[-1])

    def add(self, index: int, seconds: float, landmarks: Floats, score: float) -> None:
        self.indices.append(index)
        self.seconds.append(seconds)
        self.landmarks.append(landmarks)
        self.score.append(score)

    def take_back(self) -> None:
        """Forget the last frame."""
        for values in (self.indices, self.seconds, self.landmarks, self.score):
            values.pop()


class Tracker:
    """Feed it a shot's frames in order, then `finish` the shot; it is then ready for the next one."""

    def __init__(self, models: FaceModels, min_face: int = MIN_FACE) -> None:
        self._models = models
        self._min_face = min_face
        self._begin()

    def _begin(self) -> None:
        self._live: list[_Live] = []
        self._done: list[_Live] = []
        self._times: list[float] = []
        self._first = 0
        self._looked = self._tiled = -np.inf

    def feed(self, pixels: Pixels, index: int, seconds: float) -> None:
        """Follow the faces into this frame. pixels: uint8 (H, W, 3) RGB."""
        if not self._times:
            self._first = index
        self._times.append(seconds)
        for live in self._live:
            self._follow(live, pixels, index, seconds)
        self._drop_doubles(index)
        lost = any(live.indices[-1] != index for live in self._live)
        if lost or seconds - self._looked >= LOOK_SECONDS - 1e-6:
            self._look(pixels, index, seconds)
        for live in list(self._live):
            if seconds - live.seconds[-1] > GAP_SECONDS or self._made_up(live, seconds):
                self._live.remove(live)
                self._done.append(live)

    def finish(self) -> list[Track]:
        """Return the shot's tracks by first appearance, then from left to right; their names are empty."""
        shortest = min(SHORTEST_SECONDS, 0.5 * (self._times[-1] - self._times[0])) if self._times else 0.0
        kept = []
        for live in self._done + self._live:
            long_enough = bool(live.indices) and live.seconds[-1] - live.seconds[0] >= shortest
            if long_enough and float(np.median(live.score)) > PRESENT:
                times = np.array(self._times[live.indices[0] - self._first : live.indices[-1] - self._first + 1])
                kept.append(_track(live, times))
        self._begin()
        return sorted(kept, key=lambda track: (track.start, float(track.boxes[0, 0])))

    def _follow(self, live: _Live, pixels: Pixels, index: int, seconds: float) -> None:
        found = self._fit(pixels, roi_from_landmarks(live.landmarks[-1]))
        if found is None or not _near(found[0], live, seconds, reach=0.6):
            return
        live.add(index, seconds, *found)

    def _fit(self, pixels: Pixels, roi: Roi) -> tuple[Floats, float] | None:
        landmarks, presence = self._models.mesh(pixels, roi)
        if presence < PRESENT or not looks_like_a_face(landmarks, self._min_face, pixels.shape[:2]):
            return None
        return landmarks, presence

    def _drop_doubles(self, index: int) -> None:
        """Where two tracks have come to lie on one face, the younger one gives way."""
        here: list[_Live] = []
        for live in list(self._live):
            if live.indices[-1] != index:
                continue
            if any(overlap(live.box, other.box) > SAME_FACE for other in here):
                live.take_back()  # it had a frame before this one: tracks are met after they are followed
            else:
                here.append(live)

    def _look(self, pixels: Pixels, index: int, seconds: float) -> None:
        tiles = seconds - self._tiled >= TILES_SECONDS - 1e-6
        self._looked = seconds
        if tiles:
            self._tiled = seconds
        for detection in self._models.find(pixels, tiles=tiles):
            known = next((live for live in self._live if live.indices[-1] == index and _same(detection, live)), None)
            if known is not None:
                known.seen = seconds
            elif max(detection.box[2:] - detection.box[:2]) >= self._min_face / 2:
                self._meet(detection, pixels, index, seconds)

    def _meet(self, detection: Detection, pixels: Pixels, index: int, seconds: float) -> None:
        """Take up a face that no track holds in this frame: one that was lost, or a new one."""
        found = self._fit(pixels, roi_from_detection(detection))
        if found is not None:  # a second look, framed as in every later frame
            found = self._fit(pixels, roi_from_landmarks(found[0]))
        if found is None:
            return
        box = box_of(found[0])
        if any(live.indices[-1] == index and overlap(live.box, box) > SAME_FACE for live in self._live):
            return
        lost = [live for live in self._live if live.indices[-1] != index and _near(found[0], live, seconds, reach=1.0)]
        live = min(lost, key=lambda item: _distance(found[0], item), default=None)
        if live is None:
            live = _Live()
            self._live.append(live)
        live.add(index, seconds, *found)
        live.seen = seconds

    def _made_up(self, live: _Live, seconds: float) -> bool:
        """Whether only the mesh still claims a face, and not firmly; what it claimed since is taken back."""
        if seconds - live.seen < UNSEEN_SECONDS or float(np.median(live.score[-25:])) > SURE:
            return False
        while len(live.indices) > 1 and live.seconds[-1] > live.seen:
            live.take_back()
        return True


def box_of(landmarks: Floats) -> Floats:
    """Return float32 (..., 4), the boxes around landmarks (..., 468, 2)."""
    return np.concatenate([landmarks.min(-2), landmarks.max(-2)], axis=-1)


def looks_like_a_face(landmarks: Floats, min_face: float, frame: tuple[int, int]) -> bool:
    """Return whether landmarks (468, 2) have a face's size and proportions, half of them inside the frame (H, W)."""
    height, width = frame
    inside = ((landmarks >= -0.5) & (landmarks <= (width - 0.5, height - 0.5))).all(1)
    eyes, mouth = landmarks[[33, 133, 362, 263]].mean(0), landmarks[[61, 291]].mean(0)
    across = landmarks[263] - landmarks[33]
    side = float(np.linalg.norm(landmarks[10] - landmarks[152]))
    reach = max(float(np.ptp(landmarks, axis=0).max()), 1e-6)
    drop = float(np.linalg.norm(mouth - eyes))
    upright = float(across[0] * (mouth - eyes)[1] - across[1] * (mouth - eyes)[0]) > 0  # not a mirrored or folded mesh
    return bool(reach >= min_face and inside.mean() >= 0.5 and side > 0.5 * reach and drop > 0.2 * reach and upright)


def _near(landmarks: Floats, live: _Live, seconds: float, reach: float) -> bool:
    """Return whether a face may be the one of `live`, at most `reach` face sizes away for each tenth of a second."""
    ratio = float(np.ptp(landmarks, axis=0).max() / max(np.ptp(live.landmarks[-1], axis=0).max(), 1e-6))
    waited = max(1.0, (seconds - live.seconds[-1]) / 0.1)
    return 0.6 < ratio < 1.67 and _distance(landmarks, live) < min(reach * waited, 1.5)


def _distance(landmarks: Floats, live: _Live) -> float:
    """Return how far a face has moved from the last one of `live`, in face sizes."""
    last = live.landmarks[-1]
    return float(np.linalg.norm(landmarks.mean(0) - last.mean(0)) / max(np.ptp(last, axis=0).max(), 1e-6))


def _same(detection: Detection, live: _Live) -> bool:
    """Detectors draw the box around eyes to mouth, so its centre within the mesh's box counts too."""
    box, centre = live.box, (detection.box[:2] + detection.box[2:]) / 2
    return overlap(detection.box, box) > SAME_FACE or bool((centre > box[:2]).all() and (centre < box[2:]).all())


def _track(live: _Live, times: Floats) -> Track:
    """Fill the gaps in a straight line, with score 0."""
    start, stop = live.indices[0], live.indices[-1] + 1
    have = np.array(live.indices) - start
    points = np.stack(live.landmarks)
    landmarks = np.empty((stop - start, *points.shape[1:]), np.float32)
    landmarks[have] = points
    score = np.zeros(stop - start, np.float32)
    score[have] = live.score
    for a, b in pairwise(have):
        for i in range(a + 1, b):
            share = np.float32((times[i] - times[a]) / max(times[b] - times[a], 1e-9))
            landmarks[i] = (1 - share) * landmarks[a] + share * landmarks[b]
    boxes = np.asarray(box_of(landmarks), np.float32)
    return Track("", start, stop, landmarks, boxes, np.clip(score, 0, 1), speaking(landmarks, times.astype(np.float64)))
