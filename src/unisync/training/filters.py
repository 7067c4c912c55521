"""What is measured of a sample, and which samples are good enough to learn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from unisync.options import PrepareOptions
from unisync.types import Floats, Pixels

SKIN = (205, 425, 207, 427, 214, 434, 210, 430, 199, 200, 164)
"""Points around the mouth that should look the same all along."""
STEADY = (6, 197, 195, 117, 346, 50, 280)
"""Points above, by which changes of light are told from things before the mouth."""
LOOKED_AT = 5


@dataclass(frozen=True)
class Filter:
    """Drops a sample whose `figure` is below (or, if `most`, above) the option `option`; 0 keeps everything.

    spoken: only samples with speech are asked.
    """

    figure: str
    option: str
    most: bool = False
    spoken: bool = False

    def drops(self, figures: Mapping[str, float | str], options: PrepareOptions) -> bool:
        value, bound = figures.get(self.figure), float(getattr(options, self.option))
        if not isinstance(value, float | int) or not bound or (self.spoken and not figures["speech"]):
            return False
        return value > bound if self.most else value < bound


FILTERS = (
    Filter("seconds", "min_seconds"),
    Filter("rate", "min_rate"),
    Filter("face", "min_face"),
    Filter("seen", "min_seen"),
    Filter("yaw", "max_yaw", most=True),
    Filter("sharpness", "min_sharpness"),
    Filter("occlusion", "max_occlusion", most=True),
    Filter("speech", "min_speech"),
    Filter("lips", "min_lips", spoken=True),
    Filter("rival", "max_rival", most=True, spoken=True),
    Filter("sync", "min_sync", spoken=True),
)


def sharpness(pixels: Pixels, scale: float) -> float:
    """Return how much fine detail canvases (T, S, S, 3) have for their contrast, seen at the film's own size.

    scale: canvas px per film px; a small face blown up is judged by what it was.
    """
    values = []
    for image in pixels[np.linspace(0, len(pixels) - 1, LOOKED_AT).astype(int)]:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
        if scale > 1:
            grey = np.asarray(
                cv2.resize(grey, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA), np.float32
            )
        size = len(grey)
        face = grey[: round(0.9 * size), round(0.15 * size) : round(0.85 * size)]
        values.append(float(cv2.Laplacian(face, cv2.CV_32F).std()) / max(float(face.std()), 1.0))
    return float(np.median(values))


def occlusion(pixels: Pixels, landmarks: Floats) -> float:
    """Return how much the skin around the mouth changes its colour at times, in Lab units; something passes before it.

    What covers it all along is not seen, nor what has the colour of skin.
    """
    size = pixels.shape[1]
    colours = []
    for image, points in zip(pixels, landmarks, strict=True):
        lab = cv2.cvtColor(cv2.blur(image, (5, 5)).astype(np.float32) / np.float32(255), cv2.COLOR_RGB2Lab)
        x, y = np.clip(np.round(points[list(SKIN + STEADY)]).astype(int), 0, size - 1).T
        colours.append(lab[y, x])
    away = np.stack(colours) - np.median(colours, axis=0)
    light = np.median(away[:, len(SKIN) :], axis=1, keepdims=True)
    change = np.linalg.norm(away[:, : len(SKIN)] - light, axis=2)
    return float(np.percentile(np.sort(change, axis=1)[:, -4], 98))
