"""The pose video that anchors the method (PAFS): what the head does, drawn without what the mouth does."""

from __future__ import annotations

import cv2
import numpy as np

from unisync.types import Floats, Pixels

# Mesh indices by part. No lips, and nothing of the face's outline below the ears: the jaw moves with speech
# and would tell the old words.
PARTS: dict[tuple[int, int, int], tuple[tuple[int, ...], ...]] = {
    (255, 80, 80): ((33, 160, 158, 133, 153, 144, 33),),
    (80, 255, 80): ((362, 385, 387, 263, 373, 380, 362),),
    (255, 255, 80): ((168, 6, 197, 195, 5, 4, 1, 2), (98, 97, 2, 326, 327), (129, 98), (327, 358)),
    (80, 80, 255): ((127, 234, 93), (356, 454, 323)),
    (255, 80, 255): ((70, 63, 105, 66, 107), (336, 296, 334, 293, 300)),
}
FINE = 4  # sub-pixel bits for drawing


def draw_pose(landmarks: Floats, size: int) -> Pixels:
    """Return uint8 (T, size, size, 3): lines on black through the landmarks (T, 468, 2) canvas px that speech leaves still."""
    video = np.zeros((len(landmarks), size, size, 3), np.uint8)
    thickness = max(1, round(size / 64))
    for image, points in zip(video, landmarks, strict=True):
        fixed = np.round(points * 2**FINE).astype(np.int32)
        for colour, lines in PARTS.items():
            curves = [fixed[list(line)] for line in lines]
            cv2.polylines(image, curves, False, colour, thickness, cv2.LINE_AA, FINE)
    return video
