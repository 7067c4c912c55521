"""The demo's own film and speech: a face that ships in scikit-image's wheel, shot as if by hand, and our own words."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np

from unisync.errors import OptionError
from unisync.media import drawn, write_film
from unisync.types import ArrayPicture, Floats, Frame, Pixels

RATE = 25
SECONDS = 5.0
SIZE = 512
FACE = (222.0, 118.0)
"""The middle of the face in the picture, px."""
ZOOM = 1.8


def demo_speech() -> Path:
    """Return where the demo's speech lies."""
    return Path(str(files("unisync") / "data" / "demo-speech.flac"))


def make_demo_film(out: Path, seconds: float = SECONDS) -> Path:
    """Write the demo's film, SIZE by SIZE at RATE frames a second, silent. Raises OptionError without scikit-image."""
    picture = _astronaut()
    num = max(1, round(seconds * RATE))
    write_film(demo_frames(picture, num), out, drawn(out.name, SIZE, SIZE, RATE, num))
    return out


def demo_frames(picture: Pixels, num: int) -> Iterator[Frame]:
    """Yield the picture as a hand would film it: drifting, breathing, slowly moving in."""
    for index in range(num):
        matrix = hand(index / RATE)
        pixels = cv2.warpAffine(picture, matrix, (SIZE, SIZE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        yield Frame(index, Fraction(index, RATE), ArrayPicture(np.asarray(pixels, np.uint8)))


def hand(seconds: float) -> Floats:
    """Return the camera at a time: float32 (2, 3), picture px -> film px."""
    turn = np.radians(1.6 * np.sin(1.1 * seconds + 0.4) + 0.3 * np.sin(4.3 * seconds))
    zoom = ZOOM * (1 + 0.02 * seconds + 0.006 * np.sin(2.6 * seconds))
    cos, sin = zoom * np.cos(turn), zoom * np.sin(turn)
    linear = np.array([[cos, -sin], [sin, cos]])
    sway = (
        9 * np.sin(0.9 * seconds) + 1.5 * np.sin(5.1 * seconds + 1),
        6 * np.sin(1.3 * seconds + 2) + 1.2 * np.sin(6.0 * seconds),
    )
    target = np.array([SIZE * 0.5, SIZE * 0.45]) + sway
    return np.column_stack([linear, target - linear @ np.array(FACE)]).astype(np.float32)


def _astronaut() -> Pixels:
    try:
        from skimage import data
    except ImportError as error:
        raise OptionError("the demo's picture is missing; install it with: pip install 'scikit-image>=0.25'") from error
    return np.asarray(data.astronaut(), np.uint8)
