"""Make docs/demo.jpg from what `make demo` left: python tools/make_demo_picture.py [FOLDER]. Top: the film; below: dubbed."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from unisync.media import probe, read_frames
from unisync.types import Pixels

FRAMES = (18, 30, 44, 60, 78, 95)
FACE = (slice(60, 420), slice(90, 420))
OUT = Path(__file__).parents[1] / "docs" / "demo.jpg"


def row(film: Path) -> Pixels:
    """Return the chosen frames of a film beside each other."""
    wanted = [frame.pixels[FACE] for frame in read_frames(probe(film)) if frame.index in FRAMES]
    return np.hstack([cv2.resize(face, (165, 180), interpolation=cv2.INTER_AREA) for face in wanted]).astype(np.uint8)


def main() -> None:
    """Write the picture."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
    sheet = np.vstack([row(folder / name) for name in ("film.mp4", "dubbed.mp4")])
    cv2.imwrite(str(OUT), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])
    print(OUT)


if __name__ == "__main__":
    main()
