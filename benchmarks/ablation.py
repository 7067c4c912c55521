"""What each part of the method is worth: one Markdown table, a row per way of painting, medians over the clips.

Run: python benchmarks/ablation.py FOLDER --lines FILE.jsonl [--sheets FOLDER]. Each clip is painted with its own speech
(self) and with the next clip's (cross). Every clip x row x protocol is a JSON line: what is there already, of the same
weights and options, is not done again. Pictures of the clips go to --sheets only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from torch import Tensor

from footage import dub_options, judge, next_speaker, speakers_of, talking
from tables import figure, header, line, median
from unisync.backbones.mini import Mini, embedded_weights
from unisync.bench.footage import Footage, look, pairs
from unisync.dub import dub_frames, perform
from unisync.face.paste import paste
from unisync.media import EncodeOptions, cut, probe, read_frames, read_sound, write_film
from unisync.methods.base import Method
from unisync.methods.echo import Echo
from unisync.methods.unisync import Unisync, UnisyncPerformer
from unisync.metrics.base import Value
from unisync.metrics.expert import expert_weights
from unisync.nets.transformer import Condition
from unisync.options import DubOptions
from unisync.types import Frame, Pixels, Sound, Track, Window

Paint = Literal["copy", "echo", "soft", "hard"]
Protocol = Literal["self", "cross"]
THUMB, SHOWN = 160, 6
COLUMNS: dict[Protocol, dict[str, str]] = {
    "self": {"mouth PSNR": "mouth_likeness", "follows": "follows", "shape": "identity_shape"},
    "cross": {
        "follows": "follows",
        "leak": "leak",
        "sync": "sync",
        "sharpness": "sharpness",
        "flicker": "flicker",
        "seam": "seam",
        "jitter": "jitter",
        "shape": "identity_shape",
    },
}


@dataclass(frozen=True)
class Row:
    """A way of painting. hard: the mask is cut off at one half instead of fading (no Gaussian compositing)."""

    paint: Paint = "soft"
    performer: type[UnisyncPerformer] = UnisyncPerformer
    pose: bool = True
    changes: dict[str, Any] = field(default_factory=dict)


class Unpainted(UnisyncPerformer):
    """The method without its network: the source that it would have painted on."""

    def paint(self, window: Window) -> Pixels:
        return window.pixels


class Masked(UnisyncPerformer):
    """The method as inpainting: the mouth is cut out of the source's latents."""

    def source(self, window: Window, mask: Tensor) -> Tensor:
        return super().source(window, mask) * (1 - mask)


ROWS: dict[str, Row] = {
    "copy of the source": Row("copy"),
    "source through the canvas": Row("echo"),
    "embedded, as shipped": Row(),
    "nothing painted on the nearest mouths": Row(performer=Unpainted),
    "closed lips for the nearest mouths": Row(changes={"source_lips": "neutral"}),
    "masked source": Row(performer=Masked, changes={"source_lips": "as_is", "start": 1.0}),
    "without PAFS": Row(pose=False),
    "without TALI": Row(changes={"tau_inj": 0.0}),
    "without Gaussian compositing": Row("hard"),
    **{f"{num} steps": Row(changes={"steps": num}) for num in (1, 2, 3, 4, 6)},
    **{f"τ_inj {tau:g}": Row(changes={"tau_inj": tau}) for tau in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)},
}


@dataclass(frozen=True)
class Trial:
    """One clip with one speech, painted in one way. key: what tells it from all others, weights and options included."""

    clip: Path
    speech: Path
    protocol: Protocol
    row: str
    options: DubOptions
    seconds: float

    @cached_property
    def key(self) -> str:
        row, options = ROWS[self.row], asdict(self.options)
        weights = digest(Path(options.pop("weights") or embedded_weights()))
        expert = digest(expert_weights()) if expert_weights().is_file() else None
        way = [row.paint, row.performer.__name__, row.pose, options | row.changes]
        return hashlib.sha256(
            json.dumps([self.clip.name, self.speech.name, self.seconds, *way, weights, expert], sort_keys=True).encode()
        ).hexdigest()[:16]


class Painter(Unisync):
    """The method with another performer."""

    def __init__(self, performer: type[UnisyncPerformer], options: DubOptions, backbone: Mini) -> None:
        super().__init__(options, backbone)
        self.performer = performer

    def begin(self, track: Track) -> UnisyncPerformer:
        return self.performer(self, track.name)


class Poseless(Mini):
    """The embedded backbone with nothing added to its patch tokens."""

    def velocity(self, z: Tensor, sigma: float, condition: Condition) -> Tensor:
        return super().velocity(z, sigma, replace(condition, pose=None))


def main() -> None:
    """Do what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--lines", type=Path, required=True, help="JSON lines, read and appended to")
    parser.add_argument("--only", nargs="*", default=[], help="parts of file names")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS), metavar="ROW")
    parser.add_argument("--seconds", type=float, default=5.0, help="how much of each clip")
    parser.add_argument("--weights", help="weights file; else the shipped ones")
    parser.add_argument("--sheets", type=Path, help="folder for pictures, one per row")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="options of dub")
    given = parser.parse_args()
    options = dub_options(given.set)
    options = replace(options, weights=given.weights) if given.weights else options
    clips, speakers = talking(given.folder, given.only), speakers_of(given.folder)
    trials = [
        Trial(clip, speech, protocol, row, options, given.seconds)
        for clip in clips
        for protocol, speech in spoken_by(clip, speakers).items()
        for row in given.rows
    ]
    known = read_lines(given.lines)
    for trial in trials:
        if trial.key not in known:
            known[trial.key] = carry_out(trial, given.sheets)
            write_line(given.lines, trial, known[trial.key])
    print(table(given.rows, [(trial.row, trial.protocol, known[trial.key]) for trial in trials]))
    print(f"\nMedians over {len(clips)} of the clips, the first {given.seconds:g} s of each.")
    if given.sheets:
        join_strips(given.sheets, given.rows)


def spoken_by(clip: Path, speakers: Sequence[Path]) -> dict[Protocol, Path]:
    """Return whose speech a clip is given under each protocol."""
    return {"self": clip, "cross": next_speaker(clip, speakers)}


@cache
def digest(path: Path) -> str:
    """Return a file's sha256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def seen(path: Path, seconds: float) -> Footage:
    """Return the beginning of a film, looked at."""
    return look(cut(probe(path), seconds))


@cache
def method_of(row: str, options: DubOptions) -> Method:
    """Return what paints a row."""
    way = ROWS[row]
    if way.paint == "echo":
        return Echo(options)
    backbone = Mini if way.pose else Poseless
    return Painter(way.performer, replace(options, **way.changes), backbone.from_options(options))


def carry_out(trial: Trial, sheets: Path | None) -> dict[str, Value]:
    """Paint a clip, write it without loss, and return its figures."""
    source, spoken = seen(trial.clip, trial.seconds), seen(trial.speech, trial.seconds)
    sound = read_sound(trial.speech).cut(0, float(source.film.duration))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.mkv"
        write_film(painted(trial, source, sound), out, source.film, None, EncodeOptions("ffv1"))
        made = look(out)
        if sheets:
            save_strip(made, source, sheets / "strips" / f"{trial.row}-{trial.protocol}-{trial.clip.stem}.png")
        return judge(made, source, spoken, sound)


def painted(trial: Trial, source: Footage, sound: Sound) -> Iterator[Frame]:
    """Yield the clip's frames, painted in the row's way."""
    way = ROWS[trial.row]
    if way.paint == "copy":
        return read_frames(source.film)
    method = method_of(trial.row, trial.options)
    if way.paint == "hard":
        return hard_frames(source, sound, method)
    return dub_frames(source.film, source.plan, source.tracks, sound, method)


def hard_frames(source: Footage, sound: Sound, method: Method) -> Iterator[Frame]:
    """Yield frames whose patches end where their mask falls below one half, without any fading."""
    acts = (perform(source.film, source.plan, track, sound, method) for track in source.tracks)
    patches = chain.from_iterable(acts)
    patch = next(patches, None)
    for frame in read_frames(source.film):
        if patch and patch.frame == frame.index:
            frame = paste(frame, replace(patch, mask=(patch.mask > 0.5).astype(np.float32)))
            patch = next(patches, None)
        yield frame


def read_lines(path: Path) -> dict[str, dict[str, Value]]:
    """Return the figures that are there already, by key."""
    if not path.exists():
        return {}
    lines = [json.loads(text) for text in path.read_text("utf-8").splitlines()]
    return {item["key"]: item["figures"] for item in lines}


def write_line(path: Path, trial: Trial, figures: dict[str, Value]) -> None:
    """Add one trial's figures to the file."""
    about = {"key": trial.key, "row": trial.row, "protocol": trial.protocol, "clip": trial.clip.name}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(about | {"speech": trial.speech.name, "figures": figures}, ensure_ascii=False) + "\n")


def table(rows: Sequence[str], found: Sequence[tuple[str, Protocol, dict[str, Value]]]) -> str:
    """Return the table in Markdown: a row per way of painting, medians over what was found of it."""
    columns = [(protocol, title, name) for protocol, titles in COLUMNS.items() for title, name in titles.items()]
    lines = [header(["", *(f"{protocol}: {title}" for protocol, title, _ in columns)])]
    for row in rows:
        cells: list[Value | None] = [row]
        for protocol, _, name in columns:
            figures = [each for known, of, each in found if (known, of) == (row, protocol)]
            middle = median(figures, name)
            cells.append(middle if middle is not None else figure(figures[0] if figures else {}, name))
        lines.append(line(cells))
    return "\n".join(lines)


def save_strip(made: Footage, source: Footage, path: Path) -> None:
    """Write a few faces of the clip, the source's above the made ones."""
    columns = []
    for window, truth in pairs(made, source):
        for i in (len(window) // 4, 3 * len(window) // 4):
            both = [cv2.resize(w.pixels[i], (THUMB, THUMB), interpolation=cv2.INTER_AREA) for w in (truth, window)]
            columns.append(np.vstack(both))
    columns = columns[:SHOWN] + [np.zeros((2 * THUMB, THUMB, 3), np.uint8)] * (SHOWN - len(columns))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_picture(path, np.hstack(columns))


def join_strips(sheets: Path, rows: Sequence[str]) -> None:
    """Write one picture per row, of all its strips."""
    for row in rows:
        paths = sorted((sheets / "strips").glob(f"{row}-*.png"))
        if paths:
            write_picture(sheets / f"{row}.png", np.vstack([read_picture(path) for path in paths]))


def read_picture(path: Path) -> Pixels:
    """Read a strip, RGB."""
    data = np.frombuffer(path.read_bytes(), np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
    assert picture is not None, f"{path} is not one of our strips"
    return np.asarray(picture, np.uint8)


def write_picture(path: Path, pixels: Pixels) -> None:
    """Write a picture as PNG."""
    _, data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    path.write_bytes(data.tobytes())


if __name__ == "__main__":
    main()
