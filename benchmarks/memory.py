"""Peak memory of `dub` on a short and a long film of 1080p: it must not grow with the length.

Run: python benchmarks/memory.py [--short 200] [--long 3000] [--method unisync]. Each dub is a process of its own; the
ratio of the two peaks must stay within 1.15.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from unisync.demo import RATE, SIZE, demo_frames, demo_speech
from unisync.media import EncodeOptions, drawn, write_film
from unisync.types import ArrayPicture, Frame, Pixels

WIDTH, HEIGHT = 1920, 1080
LIMIT = 1.15


def main() -> int:
    """Print both peaks and their ratio; return 1 if it is over the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", type=int, default=200)
    parser.add_argument("--long", type=int, default=3000)
    parser.add_argument("--method", default="unisync")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        return measure(given.measure, given.method)
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for num in (given.short, given.long):
            film = draw(Path(folder) / f"{num}.mp4", num)
            command = [sys.executable, __file__, "--measure", str(film), "--method", given.method]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            peaks.append(int(done.stdout.split()[-1]))
            print(f"{num} frames of {WIDTH}x{HEIGHT}, {given.method}: {peaks[-1]} MB", flush=True)
    ratio = peaks[1] / peaks[0]
    print(f"ratio {ratio:.2f} (limit {LIMIT})")
    return int(ratio > LIMIT)


def draw(path: Path, num: int) -> Path:
    """Write the demo's face, as if filmed by hand, in a 1080p frame."""
    film = drawn(path.name, WIDTH, HEIGHT, RATE, num)
    write_film(frames(num), path, film, None, EncodeOptions("h264", 23, "ultrafast"))
    return path


def frames(num: int) -> Iterator[Frame]:
    """Yield the demo's picture, going back and forth in its first 20 seconds, twice as large and centred."""
    from skimage import data

    period = 20 * RATE
    picture: Pixels = np.asarray(data.astronaut(), np.uint8)
    cycle = list(demo_frames(picture, period))
    for index in range(num):
        place = index % (2 * period)
        small = cycle[min(place, 2 * period - 1 - place)].pixels
        large = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        left = (WIDTH - 2 * SIZE) // 2
        large[: 2 * SIZE, left : left + 2 * SIZE] = cv2.resize(small, (2 * SIZE, 2 * SIZE))
        yield Frame(index, Fraction(index, RATE), ArrayPicture(large))


def measure(film: Path, method: str) -> int:
    """Dub one film and print this process's peak memory in MB."""
    from unisync import api
    from unisync.options import DubOptions

    options = DubOptions(method=method, steps=2, when_shorter="loop", preset="ultrafast")
    api.dub(film, demo_speech(), film.with_suffix(".dubbed.mp4"), options=options)
    # not getrusage: its peak is inherited from the process that drew the film
    (peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(int(peak.split()[1]) // 1024)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
