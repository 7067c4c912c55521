"""What the tests of training share."""

from __future__ import annotations

import numpy as np
import pytest

from faces import portrait
from unisync.face.align import canvas_matrices, crop, transform
from unisync.face.detect import FaceModels, roi_from_detection
from unisync.training.canvases import Canvases
from unisync.types import Floats

SIZE = 128


@pytest.fixture(scope="session")
def face() -> Canvases:
    """One still canvas of a real face, twelve times."""
    models = FaceModels()
    points = models.mesh(portrait(), roi_from_detection(models.find(portrait())[0]))[0]
    marks = np.tile(points, (12, 1, 1))
    matrix = canvas_matrices(marks, SIZE, [i / 25 for i in range(12)])[0]
    pixels = np.stack([crop(portrait(), matrix, SIZE)] * 12)
    landmarks: Floats = np.stack([transform(p, matrix) for p in marks])
    return Canvases(pixels, landmarks, np.arange(12) / 25, np.zeros(0, np.int16), "")
