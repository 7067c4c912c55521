"""Face detectors and the 468-point mesh, run by LiteRT from the model files that mediapipe's wheel carries.

mediapipe itself is never imported: only its .tflite files are read where they lie.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from unisync.errors import FaceError
from unisync.types import NUM_LANDMARKS, Floats, Pixels

FILES = {
    "short": "modules/face_detection/face_detection_short_range.tflite",
    "full": "modules/face_detection/face_detection_full_range_sparse.tflite",
    "mesh": "modules/face_landmark/face_landmark.tflite",
}
MEND = "pip install --no-deps mediapipe==0.10.14"
MESH_SIZE = 192
ROI_SCALE = 1.5  # the mesh was trained on boxes enlarged by this
SAME_FACE_IOU = 0.3

Run = Callable[[Floats], list[Floats]]


@dataclass(frozen=True, eq=False)
class Detection:
    """One face.

    box: float32 (4,) px left, top, right, bottom.  keypoints: float32 (6, 2) px (eyes, nose, mouth, ears).
    """

    box: Floats
    keypoints: Floats
    score: float


@dataclass(frozen=True)
class Roi:
    """An upright-face square: centre (x, y) and side in px, angle in radians (positive: clockwise on screen)."""

    x: float
    y: float
    side: float
    angle: float


def model_files() -> dict[str, Path | None]:
    """Return where each face model lies, None for one that is missing."""
    spec = find_spec("mediapipe")
    roots = [Path(p) for p in (spec.submodule_search_locations or [])] if spec else []
    return {name: next((r / file for r in roots if (r / file).is_file()), None) for name, file in FILES.items()}


class FaceModels:
    """The loaded models; one instance per thread (LiteRT interpreters hold state)."""

    def __init__(self) -> None:
        missing = [name for name, path in model_files().items() if path is None]
        if missing:
            raise FaceError(f"the face models are missing ({', '.join(missing)}); install them with: {MEND}")

    @cached_property
    def _short(self) -> _Detector:
        return _Detector(_load("short", ["regressors", "classificators"]), 128, _anchors(128, (8, 16, 16, 16), 2))

    @cached_property
    def _full(self) -> _Detector:
        return _Detector(_load("full", ["Identity", "Identity_1"]), 192, _anchors(192, (4,), 1))

    @cached_property
    def _mesh(self) -> Run:
        return _load("mesh", ["conv2d_21", "conv2d_31"])

    def find(self, pixels: Pixels, min_score: float = 0.5, tiles: bool = True) -> list[Detection]:
        """Return the faces in `pixels` (H, W, 3) RGB, the surest first.

        tiles: also look at four overlapping quarters, where faces under 5 % of the frame's side are still seen.
        """
        found = self._full(pixels, (0, 0), min_score) + self._short(pixels, (0, 0), min_score)
        if tiles:
            height, width = pixels.shape[:2]
            side_y, side_x = int(height * 0.6), int(width * 0.6)
            for y in (0, height - side_y):
                for x in (0, width - side_x):
                    found += self._full(pixels[y : y + side_y, x : x + side_x], (x, y), min_score)
        kept: list[Detection] = []
        for item in sorted(found, key=lambda d: -d.score):
            if all(overlap(item.box, other.box) < SAME_FACE_IOU for other in kept):
                kept.append(item)
        return kept

    def mesh(self, pixels: Pixels, roi: Roi) -> tuple[Floats, float]:
        """Return landmarks float32 (468, 2) in px of `pixels`, and how sure a face is there, in [0, 1]."""
        cos, sin = np.cos(roi.angle), np.sin(roi.angle)
        turn = np.array([[cos, -sin], [sin, cos]])
        corners = np.array([(-1, -1), (1, -1), (-1, 1)]) * roi.side / 2
        source = np.asarray(corners @ turn.T + (roi.x, roi.y), np.float32)
        end = MESH_SIZE - 0.5
        matrix = cv2.getAffineTransform(source, np.array([(-0.5, -0.5), (end, -0.5), (-0.5, end)], np.float32))
        face = cv2.warpAffine(pixels, matrix, (MESH_SIZE, MESH_SIZE), flags=cv2.INTER_LINEAR)
        points, presence = self._mesh(np.asarray(face, np.float32)[None] / np.float32(255))
        back = cv2.invertAffineTransform(matrix)
        canvas = points.reshape(NUM_LANDMARKS, 3)[:, :2] - 0.5
        logit = float(np.clip(presence.ravel()[0], -50, 50))
        return np.asarray(canvas @ back[:, :2].T + back[:, 2], np.float32), float(1 / (1 + np.exp(-logit)))


def roi_from_detection(detection: Detection) -> Roi:
    """Return where the mesh should look for a face that a detector found."""
    right, left = detection.keypoints[:2]
    box = detection.box
    side = float(max(box[2] - box[0], box[3] - box[1])) * ROI_SCALE
    angle = float(np.arctan2(left[1] - right[1], left[0] - right[0]))
    return Roi(float(box[0] + box[2]) / 2, float(box[1] + box[3]) / 2, side, angle)


def roi_from_landmarks(landmarks: Floats) -> Roi:
    """Return where the mesh should look in the next frame, given this frame's landmarks (468, 2) px."""
    right, left = landmarks[33], landmarks[263]
    angle = float(np.arctan2(left[1] - right[1], left[0] - right[0]))
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, sin], [-sin, cos]])  # frame -> upright
    upright = landmarks @ turn.T
    low, high = upright.min(0), upright.max(0)
    centre = ((low + high) / 2) @ turn
    return Roi(float(centre[0]), float(centre[1]), float((high - low).max()) * ROI_SCALE, angle)


def overlap(a: Floats, b: Floats) -> float:
    """Return the intersection over union of two boxes."""
    width = max(0.0, float(min(a[2], b[2]) - max(a[0], b[0])))
    height = max(0.0, float(min(a[3], b[3]) - max(a[1], b[1])))
    shared = width * height
    areas = float((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]))
    return shared / max(areas - shared, 1e-9)


@dataclass(frozen=True, eq=False)
class _Detector:
    """A BlazeFace network with its anchors."""

    run: Run
    size: int
    anchors: Floats

    def __call__(self, pixels: Pixels, origin: tuple[int, int], min_score: float) -> list[Detection]:
        height, width = pixels.shape[:2]
        scale = self.size / max(height, width)
        inner = max(1, round(width * scale)), max(1, round(height * scale))
        left, top = (self.size - inner[0]) // 2, (self.size - inner[1]) // 2
        square = np.zeros((self.size, self.size, 3), np.float32)
        small = cv2.resize(pixels, inner, interpolation=cv2.INTER_AREA)
        square[top : top + inner[1], left : left + inner[0]] = small / np.float32(127.5) - 1
        boxes, logits = (out[0] for out in self.run(square[None]))
        score = 1 / (1 + np.exp(-np.clip(logits[:, 0], -50, 50)))
        found = []
        for i in np.flatnonzero(score > min_score):
            centre = boxes[i, :2] / self.size + self.anchors[i]
            half = boxes[i, 2:4] / self.size / 2
            points = np.concatenate(
                [[centre - half, centre + half], boxes[i, 4:16].reshape(6, 2) / self.size + self.anchors[i]]
            )
            points = (points * self.size - (left, top)) / scale + origin
            found.append(
                Detection(
                    np.asarray(points[:2].ravel(), np.float32), np.asarray(points[2:], np.float32), float(score[i])
                )
            )
        return found


def _anchors(size: int, strides: tuple[int, ...], per_stride: int) -> NDArray[np.float32]:
    """Return the anchor centres in [0, 1], float32 (N, 2), in the networks' own order."""
    centres: list[tuple[float, float]] = []
    for stride in dict.fromkeys(strides):
        grid = size // stride
        repeat = per_stride * strides.count(stride)
        steps = (np.arange(grid) + 0.5) / grid
        centres += [(x, y) for y in steps for x in steps for _ in range(repeat)]
    return np.array(centres, np.float32)


def _load(name: str, outputs: list[str]) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    with _quiet():
        interpreter = Interpreter(str(model_files()[name]), num_threads=1)
        interpreter.allocate_tensors()
    entry = interpreter.get_input_details()[0]["index"]
    index = {detail["name"]: detail["index"] for detail in interpreter.get_output_details()}

    def run(batch: Floats) -> list[Floats]:
        interpreter.set_tensor(entry, batch)
        interpreter.invoke()
        return [interpreter.get_tensor(index[output]) for output in outputs]

    return run


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the runtime's greeting, written by its C++ side, off the user's terminal."""
    sys.stderr.flush()
    kept = os.dup(2)
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(sink)
        os.close(kept)
