"""Do painted lips open as far as they were asked to? One table row per film (python benchmarks/rendering.py FOLDER).

For the first frames of each talking film: the lip opening asked of the method against the opening that the mesh sees
in the painted canvases. Columns: fidelity (correlation), amplitude (ratio of the spreads), leak (correlation with the
film's own lips), the smallest opening seen (% of the canvas's side), and the painted lips' sharpness and flicker as
shares of the film's own. Each is the mean over several seeds, whose medians stand below: noise that frames share is
the same for every film, and some of it paints better. Canvases only: nothing is pasted back, so what the audio encoder
hears and what paste adds stay out of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from footage import dub_options, next_speaker, speakers_of, talking
from tables import figure, header, line, median
from unisync.backbones.mini import Mini
from unisync.dubbing import lend_mouths
from unisync.face.align import canvas_matrices, crop, transform
from unisync.face.detect import FaceModels, Roi
from unisync.media import cut, probe, read_frames, read_sound
from unisync.methods.editing import EditPerformer
from unisync.methods.unisync import Unisync
from unisync.methods.windows import Canvas, stitch, windows
from unisync.metrics.base import Value
from unisync.metrics.landmarks import LipCorrelation, opening
from unisync.metrics.pixels import Flicker, Sharpness
from unisync.mouth import choose_reference
from unisync.scanning import choose, scan_film
from unisync.types import Floats, Mouths, Pixels, Reference, Sound, Track, Window

SCAN_SECONDS = 4.0
"""How far a film is looked at; the reference mouth comes from there."""
COLUMNS = ("fidelity", "amplitude", "leak", "smallest", "sharpness", "flicker")


@dataclass(frozen=True, eq=False)
class Take:
    """The first frames of a film's face as one window, and the mouths that a method is given."""

    track: Track
    window: Window
    reference: Reference
    mouths: Mouths


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", default=[], help="parts of file names")
    parser.add_argument("--speech", help="FILE or FILE@START-STOP for all films; else each has the next one's")
    parser.add_argument("--frames", type=int, default=44)
    parser.add_argument("--seeds", type=int, default=4, help="how many seeds each figure is the mean of")
    parser.add_argument("--weights", help="weights file; else the shipped ones")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="options of dub")
    given = parser.parse_args()
    options = dub_options(given.set)
    options = replace(options, weights=given.weights) if given.weights else options
    seeds = range(options.seed, options.seed + given.seeds)
    backbone = Mini.from_options(options)
    methods = [Unisync(replace(options, seed=seed), backbone) for seed in seeds]
    models, speakers = FaceModels(), speakers_of(given.folder)
    found: list[list[dict[str, Value]]] = []
    print(header(("film", *COLUMNS)), flush=True)
    for path in talking(given.folder, given.only):
        take = first_take(path, given.frames, backbone.geometry.canvas, models)
        if take is None:
            print(line([path.name, "no face long enough", *[None] * (len(COLUMNS) - 1)]), flush=True)
            continue
        sound = speech_at(given.speech or str(next_speaker(path, speakers)))
        found.append([measure(method, take, sound, models) for method in methods])
        print(line([path.name, *(figure(means(found[-1]), column) for column in COLUMNS)]), flush=True)
    for i, seed in enumerate(seeds):
        print(line([f"median, seed {seed}", *(median([film[i] for film in found], name) for name in COLUMNS)]))
    print(line(["**median**", *(median([means(film) for film in found], name) for name in COLUMNS)]))


def means(painted: Sequence[Mapping[str, Value]]) -> dict[str, Value]:
    """Return each figure's mean over the seeds; where one has no figure, its reason."""
    together: dict[str, Value] = {}
    for name in painted[0]:
        values = [row[name] for row in painted]
        numbers = [value for value in values if isinstance(value, float)]
        reason = next((value for value in values if isinstance(value, str)), None)
        together[name] = reason if reason is not None else float(np.mean(numbers))
    return together


def first_take(path: Path, num: int, size: int, models: FaceModels) -> Take | None:
    """Return the start of the film's first large face; None if it has fewer than `num` frames."""
    film = cut(probe(path), SCAN_SECONDS)
    plan = scan_film(film, models=models)
    track = next((t for t in choose(plan, "largest") if len(t) >= num), None) if plan.tracks else None
    if track is None:
        return None
    seconds = [float(moment) for moment in plan.seconds[track.start : track.stop]]
    matrices = canvas_matrices(track.landmarks, size, seconds)
    points = np.stack([transform(p, m) for p, m in zip(track.landmarks, matrices, strict=True)])
    frames = enumerate(read_frames(film, track.start, track.stop))
    canvases = np.stack([crop(frame.pixels, matrices[i], size) for i, frame in frames])
    at = choose_reference(points, size, track.score)
    moments = np.array(seconds[:num]) - seconds[0]
    silence = Sound(np.zeros(0, np.float32), 16000)
    window = Window(track.start, canvases[:num], moments, points[:num], silence)
    mouths = replace(lend_mouths(film, track, points, (matrices, size)), fine=None)  # canvases only
    return Take(track, window, Reference(canvases[at], points[at]), mouths)


def speech_at(place: str) -> Sound:
    """Return the sound of FILE, or of FILE@START-STOP in seconds."""
    name, _, stretch = place.partition("@")
    sound = read_sound(Path(name))
    start, _, stop = stretch.partition("-")
    return sound.cut(float(start), float(stop)) if stretch else sound


def measure(method: Unisync, take: Take, sound: Sound, models: FaceModels) -> dict[str, Value]:
    """Paint a take and return its figures by column."""
    performer = EditPerformer(method, take.track.name)
    source = take.window
    cuts = windows(iter(canvases(source)), method.spec, sound, take.reference, take.mouths)
    painted = stitch(performer.render(cuts), method.spec.overlap, source.start + len(source))
    made = seen(replace(source, pixels=np.stack([pixels for _, pixels in painted])), models)
    source = seen(source, models)
    fidelity, leak, sharpness, flicker = LipCorrelation(), LipCorrelation(), Sharpness(), Flicker()
    fidelity.add(opening(made), performer.lips_at(sound, source.seconds)[:, 0])
    for metric in (leak, sharpness, flicker):
        metric.update(made, source)
    told = fidelity.compute()
    return {
        "fidelity": told[fidelity.name],
        "amplitude": told.get("amplitude", told[fidelity.name]),
        "leak": leak.compute()[leak.name],
        "smallest": 100 * float(opening(made).min()),
        **sharpness.compute(),
        **flicker.compute(),
    }


def canvases(window: Window) -> Iterator[Canvas]:
    """Yield a window's frames one by one, as a method's windows are cut from them."""
    for i in range(len(window)):
        yield Canvas(window.start + i, window.pixels[i], float(window.seconds[i]), window.landmarks[i])


def seen(window: Window, models: FaceModels) -> Window:
    """Return the window with the landmarks that the mesh sees in its canvases."""
    size = window.pixels.shape[1]
    return replace(window, landmarks=np.stack([_mesh(models, pixels, size) for pixels in window.pixels]))


def _mesh(models: FaceModels, canvas: Pixels, size: int) -> Floats:
    """Return landmarks (468, 2) of a canvas, widened so that the whole face fits into what the mesh looks at."""
    room = size // 2
    wide = np.pad(canvas, ((room, room), (room, room), (0, 0)), mode="edge")
    points, _ = models.mesh(wide, Roi(room + 0.5 * size, room + 0.44 * size, 1.48 * size, 0.0))
    return points - np.float32(room)


if __name__ == "__main__":
    main()
