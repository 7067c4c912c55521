"""Dub every film of a folder with another film's speech and print one table row each (python benchmarks/clips.py FOLDER).

Columns: finished; time stamps equal; pixels outside the mask equal (an ffv1 output against the source); correlation of
the lip opening with the speech's own film (follows) and with the source's old lips (leak); opening under silence
against the source's own, and in brackets that of the source's most closed frame (silent); sharpness and flicker of the
lips as shares of the source's, at the film's own resolution; how far the upper face's shape is from the source's, in %
of the eye distance, and in brackets that of the source with a blurred mouth (shape); share of the opening's power above
8 Hz, and in brackets the source's (jitter); our sync expert's confidence as a share of its confidence in the speech's
own film (sync); work per second of film (s/s).
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np
import soundfile
from numpy.typing import NDArray

from footage import dub_options, films, judge, next_speaker, speakers_of
from tables import cell, figure, header, line, median
from unisync.bench.footage import Footage, look, pairs
from unisync.dubbing import dub_film, dub_frames
from unisync.errors import UnisyncError
from unisync.media import EncodeOptions, Film, Speech, probe, read_frames, read_sound, write_film
from unisync.methods.base import Keep, Method, Performer, Spec, anew
from unisync.metrics.base import Value
from unisync.metrics.landmarks import IdentityShape, SilenceShare
from unisync.metrics.pixels import OutsideMask
from unisync.options import DubOptions
from unisync.production import fit
from unisync.registry import load
from unisync.types import Frame, Pixels, Track, Window

SILENT_SECONDS = 25
"""Longer films are not dubbed a second time with silence."""
BLUR = 0.05
"""How far the baseline's mouth is blurred, in canvas sides."""
NUMBERS = ("follows", "leak", "silent", "sharpness", "flicker", "shape", "jitter", "sync", "s/s")
BESIDE = {
    "follows": "follows_shifted",
    "silent": "shut_share",
    "shape": "shape of a blurred mouth",
    "jitter": "jitter_truth",
}
COLUMNS = ("film", "speech of", "finished", "frames", "outside mask", *NUMBERS)
look_once = cache(look)
sound_of = cache(read_sound)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", default=[], help="parts of file names")
    parser.add_argument("--fast", action="store_true", help="no second dub: neither outside mask nor silence nor blur")
    parser.add_argument("--exact-frames", default="60", help="frames compared outside the mask, a number or all")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="options of dub")
    parser.add_argument("--jobs", type=int, default=1, help="films side by side, each in a process of its own")
    given = parser.parse_args()
    exact = None if given.exact_frames == "all" else int(given.exact_frames)
    measured = partial(
        row_of, speakers=speakers_of(given.folder), options=dub_options(given.set), fast=given.fast, exact=exact
    )
    rows = []
    print(header(COLUMNS), flush=True)
    with ProcessPoolExecutor(given.jobs, multiprocessing.get_context("spawn")) as pool:
        for row in pool.map(measured, films(given.folder, given.only)):
            rows.append(row)
            print(row_line(row), flush=True)
    print(row_line(medians(rows)), flush=True)


def row_of(path: Path, speakers: list[Path], options: DubOptions, fast: bool, exact: int | None) -> dict[str, Value]:
    """Return a film's figures by column."""
    speech = next_speaker(path, speakers)
    row = {"film": path.name, "speech of": speech.name, **measure(path, speech, options)}
    if not fast and row["finished"] == "yes":
        row |= measure_more(path, speech, options, exact)
    return row


def measure(path: Path, speech: Path, options: DubOptions) -> dict[str, Value]:
    """Dub one film for real and measure the file that came out."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.mp4"
        try:
            begun = time.monotonic()
            report = dub_film(path, speech, out, options)
            spent = time.monotonic() - begun
        except UnisyncError as error:
            return {"finished": f"no: {error}"}
        film = fit(probe(path), sound_of(speech), speech, options)[0]
        source, made, spoken = looked(film), look(out), look_once(speech)
        figures = judge(made, source, spoken, sound_of(speech))
    same = made.film.seconds == source.film.seconds
    figures |= {
        "finished": "yes",
        "frames": "equal" if same else f"{len(made.film)} of {len(film)}",
        "shape": figures["identity_shape"],
        "s/s": spent / max(report.seconds, 1e-6),
    }
    return figures


def measure_more(path: Path, speech: Path, options: DubOptions, exact: int | None) -> dict[str, Value]:
    """Dub the film again: with silence, with a blurred mouth, and without loss."""
    with tempfile.TemporaryDirectory() as folder:
        film = fit(probe(path), sound_of(speech), speech, options)[0]
        source = looked(film)
        figures: dict[str, Value] = {
            "outside mask": outside(source, speech, Path(folder), options, exact),
            "shape of a blurred mouth": blurred_shape(source, speech, Path(folder)),
        }
        if not film.still and film.duration <= SILENT_SECONDS:
            figures |= silence(path, source, Path(folder), options)
    return figures


def looked(film: Film) -> Footage:
    """Return what was seen in a film; looked at once unless it is a virtual one."""
    return look(film) if film.source is not None else look_once(film.path)


def silence(path: Path, source: Footage, folder: Path, options: DubOptions) -> dict[str, Value]:
    """Return how far lips are open that are driven by silence."""
    quiet, out = folder / "quiet.wav", folder / "out-silent.mp4"
    soundfile.write(quiet, np.zeros(int(float(source.film.duration) * 16000) + 1), 16000)
    dub_film(path, quiet, out, options)
    share = SilenceShare()
    for made, truth in pairs(look(out), source):
        share.update(made, truth)
    told = share.compute()
    return {"silent": told[share.name], "shut_share": told["shut_share"]}


def outside(source: Footage, speech: Path, folder: Path, options: DubOptions, exact: int | None) -> str:
    """Dub the first frames to ffv1 and compare the decoded pixels outside the masks with the source's."""
    masks: list[list[tuple[int, int, NDArray[np.bool_]]]] = []

    def noted(frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            if frame.index == exact:
                break
            masks.append([(edit.y, edit.x, edit.mask > 0) for edit in frame.edits])
            yield frame

    out = folder / "out.mkv"
    method = load("method", options.method)(options)
    sound = sound_of(speech).cut(0, float(source.film.duration))
    cast = {track.name: sound for track in source.tracks}
    frames = noted(dub_frames(source.film, source.plan, cast, method))
    write_film(frames, out, source.film, Speech(speech), EncodeOptions("ffv1"))
    likeness = OutsideMask()
    for edits, was, now in zip(masks, read_frames(source.film), read_frames(probe(out)), strict=False):
        free = np.ones(was.pixels.shape[:2], bool)
        for y, x, mask in edits:
            free[y : y + mask.shape[0], x : x + mask.shape[1]] &= ~mask
        likeness.add(now.pixels, was.pixels, free)
    return "equal" if likeness.worst == 0 else f"off by {likeness.worst}"


class BlurredMouth:
    """The baseline of the shape's column: a method that paints the film's own mouth, blurred."""

    spec = Spec(canvas=128, length=8, overlap=2)

    def begin(self, track: Track, keep: Keep = anew) -> Performer:
        return self

    def render(self, windows: Iterable[Window]) -> Iterator[tuple[int, Pixels]]:
        sigma = BLUR * self.spec.canvas
        for window in windows:
            blurred = [np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8) for image in window.pixels]
            yield window.start, np.stack(blurred)


def blurred_shape(source: Footage, speech: Path, folder: Path) -> Value:
    """Return how far the upper face's shape moves when the mouth is only blurred."""
    method: Method = BlurredMouth()
    out, shape = folder / "out-blurred.mp4", IdentityShape()
    cast = {track.name: sound_of(speech) for track in source.tracks}
    frames = dub_frames(source.film, source.plan, cast, method)
    write_film(frames, out, source.film, Speech(speech), EncodeOptions(None))
    for made, truth in pairs(look(out), source):
        shape.update(made, truth)
    return shape.compute()[shape.name]


def medians(rows: list[dict[str, Value]]) -> dict[str, Value]:
    """Return the medians of the columns that are numbers, and counts of the others."""
    counts = {"finished": "yes", "frames": "equal", "outside mask": "equal"}
    last: dict[str, Value] = {"film": "**median**", "speech of": ""}
    for name, good in counts.items():
        if any(name in row for row in rows):
            last[name] = f"{sum(row.get(name) == good for row in rows)} of {len(rows)}"
    names = (*NUMBERS, *BESIDE.values())
    return last | {name: value for name in names if (value := median(rows, name)) is not None}


def row_line(row: dict[str, Value]) -> str:
    """Return one row in Markdown, what figures are held against in brackets."""
    cells = {name: row.get(name) if name in COLUMNS[:5] else figure(row, name) for name in COLUMNS}
    for name, beside in BESIDE.items():
        if isinstance(row.get(beside), float):
            cells[name] = f"{cell(cells[name])} ({cell(row[beside])})"
    return line(list(cells.values()))


if __name__ == "__main__":
    main()
