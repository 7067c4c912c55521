"""What becomes of a face over minutes: colour, sharpness, identity and memory by the minute, one Markdown table.

Run: python benchmarks/drift.py FILM SPEECH [--minutes 10] [-o OUT.mp4] [--set method=omnisync]. The film runs back and
forth for so long (take one without cuts), the speech is repeated. Columns: how far the face's red, green and blue are from the
film's, in levels; sharpness of the lips as a share of the film's; how far the upper face's shape is from the film's, in
% of the eye distance; resident memory when the minute was done. Below: how much each rises over the whole time by a
straight line, and how much of it may be noise (the slope's 95 % interval). Returns 1 where something rises beyond it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile
from scipy.stats import linregress
from scipy.stats import t as student

from footage import dub_options
from tables import header, line
from unisync.bench.footage import look, pairs
from unisync.dubbing import dub_film
from unisync.media import probe, read_sound
from unisync.metrics.base import Value
from unisync.metrics.landmarks import IdentityShape
from unisync.metrics.pixels import Sharpness
from unisync.options import DubOptions
from unisync.production import fit
from unisync.types import Progress, Window

COLOURS = ("red", "green", "blue")
RISES = (*COLOURS, "sharpness", "shape", "MB")
COLUMNS = ("minute", *RISES)


class Minute:
    """What is measured in one minute of film."""

    def __init__(self) -> None:
        self._off, self._num = np.zeros(3), 0
        self._metrics = {"sharpness": Sharpness(), "shape": IdentityShape()}

    def add(self, made: Window, truth: Window) -> None:
        """Take a stretch of the film that was made beside the source's."""
        gaps = made.pixels.astype(np.float64) - truth.pixels
        self._off += gaps.mean((0, 1, 2)) * len(made)
        self._num += len(made)
        for metric in self._metrics.values():
            metric.update(made, truth)

    def row(self) -> dict[str, Value]:
        """Return the figures by column."""
        colours = dict(zip(COLOURS, (self._off / self._num).tolist(), strict=True))
        return colours | {title: metric.compute()[metric.name] for title, metric in self._metrics.items()}


def main() -> int:
    """Dub, measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", type=Path)
    parser.add_argument("speech", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="options of dub")
    parser.add_argument("-o", "--out", type=Path, help="keep the film that was made")
    given = parser.parse_args()
    options = dub_options([*given.set, "when_longer=bounce"])
    rows = measure(given.film, given.speech, given.minutes, options, given.out)
    print(header(COLUMNS))
    for number, row in enumerate(rows, 1):
        print(line([str(number), *(row.get(name) for name in RISES)]))
    found = rises(rows)
    print("\nRises over the whole time, and how much of it may be noise:")
    print(", ".join(f"{name} {rise:+.3f} ({noise:.3f})" for name, (rise, noise) in found.items()))
    return int(any(abs(rise) > noise for rise, noise in found.values()))


def measure(
    film: Path, speech: Path, minutes: float, options: DubOptions, out: Path | None = None
) -> list[dict[str, Value]]:
    """Return a row of figures for every minute; the film is kept where `out` says so."""
    resident: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        sound = read_sound(speech)
        long, out = Path(folder) / "speech.wav", out or Path(folder) / "out.mp4"
        soundfile.write(long, np.resize(sound.samples, round(minutes * 60 * sound.rate)), sound.rate)
        source, _, _, _ = fit(probe(film), read_sound(long), long, options)
        rate = len(source) / float(source.duration)

        def note(progress: Progress) -> None:
            if progress.stage == "dub":
                resident[int(progress.done / rate // 60)] = resident_mb()

        dub_film(film, long, out, options, note)
        told: dict[int, Minute] = {}
        for made, truth in pairs(look(out), look(source)):
            told.setdefault(int(truth.seconds[0] // 60), Minute()).add(made, truth)
    return [told[minute].row() | {"MB": resident[minute]} for minute in sorted(told)]


def rises(rows: Sequence[Mapping[str, Value]]) -> dict[str, tuple[float, float]]:
    """Return by how much each figure rises from the first minute to the last, and half that rise's 95 % interval."""
    found = {}
    for name in RISES:
        values = [value for row in rows if isinstance(value := row.get(name), float)]
        if len(values) > 2:
            fit_ = linregress(range(len(values)), values)
            wide = float(student.ppf(0.975, len(values) - 2)) * fit_.stderr
            found[name] = fit_.slope * (len(values) - 1), wide * (len(values) - 1)
    return found


def resident_mb() -> float:
    """Return this process's resident memory in MB."""
    (text,) = (row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("VmRSS"))
    return int(text.split()[1]) / 1024


if __name__ == "__main__":
    raise SystemExit(main())
