"""What our reading and writing cost beside PyAV alone: pass-through against decode + encode with the same settings.

Run: python benchmarks/echo.py [FILM] [--frames N] [--codec h264] [--preset medium]. Without FILM it draws one of 1080p.
Both run alternately, three times each, and the fastest of each are compared, since other work on the machine only ever
adds; the ratio must stay below 2 and should be near 1.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from unisync.media import EncodeOptions, Film, cut, drawn, probe, read_frames, write_film
from unisync.media.encode import Target, target_of
from unisync.types import ArrayPicture, Frame


def draw(path: Path, num_frames: int) -> Path:
    """Write a noisy, moving 1080p film."""
    film = drawn(path.name, 1920, 1080, 25, num_frames)
    noise = np.random.default_rng(0).integers(0, 48, (1080, 1920, 3), np.uint8)
    x = np.arange(1920)[None, :, None]

    def picture(index: int) -> ArrayPicture:
        waves = (100 + 90 * np.sin((x + 6 * index) / np.array([80.0, 120.0, 200.0]))).astype(np.uint8)
        return ArrayPicture(waves + np.roll(noise, 3 * index, 1))

    frames = (Frame(index, film.seconds[index], picture(index)) for index in range(num_frames))
    write_film(frames, path, film, encode=EncodeOptions("h264", crf=23, preset="ultrafast"))
    return path


def plain(film: Film, out: Path, target: Target) -> float:
    """Decode and encode with PyAV alone; return the seconds it took."""
    start = time.perf_counter()
    options = {"movflags": "+faststart"} if target.container in ("mp4", "mov") else {}
    with av.open(str(film.path)) as source, av.open(str(out), "w", options=options) as output:
        video = source.streams.video[0]
        video.thread_type = "AUTO"
        stream = output.add_stream(target.encoder, rate=film.rate, options=target.options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = film.stored_width, film.stored_height, target.pix_fmt
        stream.codec_context.time_base = film.time_base
        for index, frame in enumerate(source.decode(video)):
            if index == len(film):
                break
            frame.pict_type = 0
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return time.perf_counter() - start


def ours(film: Film, out: Path, encode: EncodeOptions) -> float:
    """Read and write with unisync.media, probing included; return the seconds it took."""
    start = time.perf_counter()
    again = cut(probe(film.path), film.seconds[-1] + Fraction(1, 10**6))
    write_film(read_frames(again), out, again, encode=encode)
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description="Cost of pass-through beside plain PyAV.")
    parser.add_argument("film", nargs="?", type=Path)
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--codec", default="h264")
    parser.add_argument("--preset", default=None)
    parser.add_argument("--limit", type=float, default=2.0, help="fail above this ratio")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        film = probe(asked.film or draw(folder / "drawn.mp4", asked.frames))
        if len(film) > asked.frames:
            film = cut(film, film.seconds[asked.frames])
        encode = EncodeOptions(asked.codec, preset=asked.preset)
        suffix = {"prores": ".mov", "ffv1": ".mkv", "vp9": ".webm"}.get(asked.codec, ".mp4")
        target = target_of(film, folder / f"out{suffix}", encode)
        times: list[tuple[float, float]] = []
        for turn in range(3):
            alone = plain(film, folder / f"plain{suffix}", target)
            own = ours(film, folder / f"ours{suffix}", encode)
            times.append((alone, own))
            print(f"run {turn + 1}: PyAV {alone:.2f} s, ours {own:.2f} s")
    alone, own = (min(column) for column in zip(*times, strict=True))
    ratio = own / alone
    print(f"{film.width}x{film.height}, {len(film)} frames, {asked.codec}: PyAV {alone:.2f} s, ours {own:.2f} s")
    print(f"ratio {ratio:.2f} (limit {asked.limit})")
    return int(ratio > asked.limit)


if __name__ == "__main__":
    sys.exit(main())
