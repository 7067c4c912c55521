"""Dub every film of a folder with another film's speech and print one table row each (python benchmarks/clips.py FOLDER).

Columns: finished; frames equal; pixels outside the mask equal (planes of an ffv1 output against the source's); correlation
of lip opening with the speech's own film and with the source's old lips; lip opening under silence against the source's
own; seconds of work per second of film.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unisync.dub import dub_film, dub_frames, fit
from unisync.errors import UnisyncError
from unisync.face.align import canvas_matrices, transform
from unisync.media.encode import EncodeOptions
from unisync.media.probe import probe
from unisync.media.reader import read_frames
from unisync.media.sound import Speech, read_sound
from unisync.media.writer import write_film
from unisync.mouth import lip_parameters
from unisync.options import DubOptions
from unisync.registry import load
from unisync.scan import choose, scan_film
from unisync.types import Floats, Frame

FILMS = (".mp4", ".mkv", ".mov", ".webm", ".flv")
STILLS = (".png", ".jpg")
RATE = 25.0
EXACT_FRAMES = 60
"""Frames checked for pixels outside the mask."""
SILENT_SECONDS = 25
"""Longer films are not dubbed a second time with silence."""


@dataclass(frozen=True)
class Row:
    """One film's figures; None where one cannot be had."""

    film: str
    speech: str
    finished: str = "yes"
    frames: str = ""
    outside: str = ""
    follows: float | None = None
    leaks: float | None = None
    silent: float | None = None
    work: float | None = None


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", default=[], help="parts of file names")
    parser.add_argument("--fast", action="store_true", help="correlations only")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="options of dub")
    given = parser.parse_args()
    extra = dict(item.split("=", 1) for item in given.set)
    paths = sorted(p for p in given.folder.iterdir() if p.suffix.lower() in FILMS + STILLS)
    wanted = [p for p in paths if not given.only or any(part in p.name for part in given.only)]
    speakers = [p for p in paths if p.suffix.lower() in FILMS and probe(p).has_sound and float(probe(p).duration) > 4]
    known: dict[Path, tuple[np.ndarray, Floats] | None] = {}
    rows = []
    print(header(), flush=True)
    for path in wanted:
        speech = next_speaker(path, speakers)
        row = measure(path, speech, known, {k: typed(v) for k, v in extra.items()}, given.fast)
        rows.append(row)
        print(line(row), flush=True)
    print(line(medians(rows)), flush=True)


def next_speaker(path: Path, speakers: list[Path]) -> Path:
    """Return another film's speech: the next in the ring, so that each voice is used about once."""
    later = [p for p in speakers if p.name > path.name and p != path]
    return later[0] if later else speakers[0]


def measure(path: Path, speech: Path, known: dict, extra: dict, fast: bool) -> Row:
    """Dub one film for real and measure the file that came out."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.mp4"
        try:
            options = DubOptions.from_dict(extra)
            begun = time.monotonic()
            report = dub_film(path, speech, out, options)
            spent = time.monotonic() - begun
        except UnisyncError as error:
            return Row(path.name, speech.name, finished=f"no: {error}")
        source, made = probe(path), probe(out)
        same = source.still or made.seconds == source.seconds
        row = Row(path.name, speech.name, "yes", "equal" if same else f"{len(made)} of {len(source)}")
        new, spoken = lips(out, known), lips(speech, known)
        follows = correlation(new, spoken)
        leaks = None if source.still else correlation(new, lips(path, known))
        silent = outside = None
        if not fast:
            short = not source.still and float(source.duration) <= SILENT_SECONDS
            silent = silence_share(path, Path(folder), options, known) if short else None
            outside = outside_equal(path, speech, Path(folder), options)
        return Row(row.film, row.speech, row.finished, row.frames, outside or "", follows, leaks, silent,
                   spent / max(report.seconds, 1e-6))  # fmt: skip


def lips(path: Path, known: dict) -> tuple[np.ndarray, Floats] | None:
    """Return moments and lip openings (canvas sides) of a film's largest face."""
    if path not in known or path.name.startswith("out"):
        plan = scan_film(path)
        tracks = choose(plan, "largest") if plan.tracks else []
        moments, openings = [], []
        for track in tracks:
            seconds = [float(s) for s in plan.seconds[track.start : track.stop]]
            matrices = canvas_matrices(track.landmarks, 128, seconds)
            points = np.stack([transform(p, m) for p, m in zip(track.landmarks, matrices, strict=True)])
            moments += seconds
            openings += lip_parameters(points, 128)[:, 0].tolist()
        known[path] = (np.array(moments), np.array(openings, np.float32)) if tracks else None
    return known[path]


def correlation(a: tuple | None, b: tuple | None) -> float | None:
    """Return Pearson's correlation over the time both have, at 25 a second; None under two seconds."""
    if a is None or b is None:
        return None
    moments = np.arange(0, min(a[0][-1], b[0][-1]), 1 / RATE)
    if len(moments) < 2 * RATE:
        return None
    x, y = (np.interp(moments, m, v) for m, v in (a, b))
    return float(np.corrcoef(x, y)[0, 1]) if x.std() > 0 and y.std() > 0 else None


def silence_share(path: Path, folder: Path, options: DubOptions, known: dict) -> float | None:
    """Return mean lip opening when driven by silence, as a share of the source's own."""
    import soundfile

    quiet, out = folder / "quiet.wav", folder / "out-silent.mp4"
    soundfile.write(quiet, np.zeros(int(float(probe(path).duration) * 16000) + 1), 16000)
    dub_film(path, quiet, out, options)
    new, old = lips(out, known), lips(path, known)
    return None if new is None or old is None else float(new[1].mean() / max(old[1].mean(), 1e-6))


def outside_equal(path: Path, speech: Path, folder: Path, options: DubOptions) -> str:
    """Dub the first frames to ffv1 and compare the decoded pixels outside the masks with the source's."""
    film, sound, _, _ = fit(probe(path), read_sound(speech), speech, options)
    plan = scan_film(film)
    method = load("method", options.method)(options)
    masks: list[np.ndarray] = []

    def noted(frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            if frame.index >= EXACT_FRAMES:
                break
            mask = np.zeros(frame.picture.rgb().shape[:2], bool)
            for edit in frame.edits:
                h, w = edit.mask.shape
                mask[edit.y : edit.y + h, edit.x : edit.x + w] |= edit.mask > 0
            masks.append(mask)
            yield frame

    out = folder / "out.mkv"
    frames = noted(dub_frames(film, plan, choose(plan, options.face), sound, method))
    write_film(frames, out, film, Speech(speech), EncodeOptions("ffv1"))
    worst = 0
    for mask, was, now in zip(masks, read_frames(film), read_frames(probe(out)), strict=False):
        gap = np.abs(was.pixels.astype(int) - now.pixels)[~mask]
        worst = max(worst, int(gap.max(initial=0)))
    return "equal" if worst == 0 else f"off by {worst}"


def medians(rows: list[Row]) -> Row:
    """Return the medians of the columns that are numbers."""

    def median(name: str) -> float | None:
        values = [v for row in rows if (v := getattr(row, name)) is not None]
        return float(np.median(values)) if values else None

    done = sum(row.finished == "yes" for row in rows)
    equal = sum(row.frames == "equal" for row in rows)
    outside = sum(row.outside == "equal" for row in rows)
    return Row("**median**", "", f"{done} of {len(rows)}", f"{equal} equal", f"{outside} equal",
               *(median(n) for n in ("follows", "leaks", "silent", "work")))  # fmt: skip


def header() -> str:
    """Return the table's head."""
    names = ("film", "speech of", "finished", "frames", "outside mask", "follows", "leak", "silent", "s/s")
    return "| " + " | ".join(names) + " |\n|" + "---|" * len(names)


def line(row: Row) -> str:
    """Return one row in Markdown."""
    values = [f"{v:.2f}" if isinstance(v, float) else str(v if v is not None else "–") for v in vars(row).values()]
    return "| " + " | ".join(values) + " |"


def typed(value: str) -> str | float | int:
    """Read a number if it is one."""
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


if __name__ == "__main__":
    main()
