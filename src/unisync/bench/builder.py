"""A suite in the way of RealWorld-LipSync from anybody's films: sorted by scene, light and character as measured."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from unisync.bench.importers import find_clips, lend_speech, suite_name
from unisync.bench.suite import Clip, Suite
from unisync.bench.traits import Traits, measure
from unisync.errors import MediaError, OptionError
from unisync.face.detect import FaceModels
from unisync.types import OnProgress, Progress

log = logging.getLogger(__name__)

MOVING_CAMERA = 1.5
"""Percent of the picture's height a second: a pan so slow that it takes a minute. Tripods are measured at 0 to .7."""
SEVERAL_FACES = 2
"""From two faces on a method must know whose lips to move."""
DARK_FACE = 0.25
"""Luma of the skin. Dark skin in good light is measured at .3 and more, fair skin in a dim room below this."""
BRIGHT_FACE = 0.75
"""Luma of the skin. Fair skin in a lit studio is measured at .65; above this, parts of it are at the picture's white."""
HARD_SHADOWS = 0.3
"""Contrast of the face: its bright side has nearly twice the luma of its dark one. Even light is measured at .07 to .22."""
THREE_QUARTER = 20.0
"""Degrees. Up to here both halves of the mouth look alike; beyond, one is foreshortened."""
PROFILE = 45.0
"""Degrees. From here on the far corner of the mouth is hidden or nearly so, and most face detectors begin to fail."""
SMALL_FACE = 100.0
"""Px. The mouth of such a face is 35 px wide: less than methods paint, so that most of what they add is lost."""
SEEN = 0.1
"""Share of frames with a face from which a film is one of somebody's face."""
RESOLUTIONS = (2160, 1440, 1080, 720, 480, 360)
DIMENSIONS = ("scene", "light", "character")
KINDS = {
    "animal": ("animal", "animals", "pet", "pets", "nonhuman"),
    "stylised": (
        *("stylised", "stylized", "cartoon", "cartoons", "anime", "animation", "painting", "paintings"),
        *("drawing", "drawings", "avatar", "avatars", "puppet", "puppets", "cgi"),
    ),
}
"""Characters that are not measured: a folder's name that has such a word tells them."""


def build(folder: Path, per_cell: int = 0, on_progress: OnProgress | None = None) -> tuple[Suite, list[Traits]]:
    """Return a suite of a folder's films, tagged by what was measured of them, and the traits of all that can be read.

    Tags are "scene:", "light:", "character:" and "resolution:" ones. A film's cell is the hardest tag of each of the
    three dimensions. per_cell: at most so many films of a cell, the most typical first, 0 all of them.
    Whether a character is stylised or an animal is not measured: the name of a folder says it (see KINDS), or nothing.
    Films without a face are in the traits but no clips; what cannot be read is left out with a warning.
    A sound of the same stem is a film's speech, STEM.truth.SUFFIX its truth. Raises OptionError where no clip is left.
    """
    if per_cell < 0:
        raise OptionError(f"per_cell must be 0 or more, not {per_cell}")
    found = find_clips(folder)
    models = FaceModels()
    traits: list[Traits] = []
    clips: list[tuple[Clip, Traits]] = []
    for number, clip in enumerate(found):
        told = partial(_tell, on_progress, number, len(found)) if on_progress else None
        try:
            traits.append(measure(clip.film, told, models=models))
        except MediaError as error:
            log.warning("%s It is left out.", error)
            continue
        if traits[-1].seen >= SEEN:
            words = kinds_of((suite_name(folder), *clip.film.relative_to(folder).parts[:-1]))
            clips.append((replace(clip, tags=tags_of(traits[-1], words)), traits[-1]))
    if on_progress:
        on_progress(Progress("build", len(found), len(found)))
    if not clips:
        raise OptionError(f"{folder}: no film in it shows a face for long enough; add films that do")
    sound = {each.film: each.has_sound for each in traits}
    chosen = [clip for clip, _ in balanced(clips, per_cell)]
    return Suite(name=suite_name(folder), clips=lend_speech(chosen, sound.__getitem__)), traits


def tags_of(traits: Traits, kinds: Sequence[str] = ()) -> tuple[str, ...]:
    """Return a film's tags, in each dimension the hardest first. kinds: what `kinds_of` says of its folders."""
    standing = "moving-camera" if traits.camera >= MOVING_CAMERA else "static-camera"
    scene = [("cuts", traits.cuts > 0), ("several-faces", traits.faces >= SEVERAL_FACES), (standing, True)]
    level = "low" if traits.luminance < DARK_FACE else "bright" if traits.luminance > BRIGHT_FACE else "normal"
    light = [("high-contrast", traits.contrast >= HARD_SHADOWS), (level, True)]
    pose = "profile" if traits.yaw >= PROFILE else "three-quarter" if traits.yaw >= THREE_QUARTER else "frontal"
    small = ("small-face", traits.face_px < SMALL_FACE)
    character = [*((kind, True) for kind in kinds), ("profile", pose == "profile"), small, (pose, pose != "profile")]
    named = zip(DIMENSIONS, (scene, light, character), strict=True)
    tags = [f"{dimension}:{tag}" for dimension, some in named for tag, is_so in some if is_so]
    side = min(traits.width, traits.height)
    lines = next((each for each in RESOLUTIONS if each <= side), None)
    return (*tags, f"resolution:{lines}p" if lines else f"resolution:below-{RESOLUTIONS[-1]}p")


def kinds_of(folders: Sequence[str]) -> tuple[str, ...]:
    """Return which kinds of characters folders' names tell of."""
    words = {word for folder in folders for word in re.findall(r"[a-z]+", folder.lower())}
    return tuple(kind for kind, names in KINDS.items() if words & {*names})


def cell_of(tags: Sequence[str]) -> tuple[str, ...]:
    """Return the main tag of each dimension."""
    return tuple(next(tag for tag in tags if tag.startswith(f"{each}:")) for each in DIMENSIONS)


def balanced(clips: Sequence[tuple[Clip, Traits]], per_cell: int) -> list[tuple[Clip, Traits]]:
    """Return at most so many clips of each cell (0: all), in their old order: those nearest to their cell's medians."""
    if not per_cell or not clips:
        return list(clips)
    points = np.array([_point(traits) for _, traits in clips])
    spread = np.percentile(points, 75, axis=0) - np.percentile(points, 25, axis=0)
    points = points / np.where(spread > 1e-6, spread, 1.0)
    cells: dict[tuple[str, ...], list[int]] = {}
    for at, (clip, _) in enumerate(clips):
        cells.setdefault(cell_of(clip.tags), []).append(at)
    kept: list[int] = []
    for members in cells.values():
        away = np.linalg.norm(points[members] - np.median(points[members], axis=0), axis=1).round(6)
        order = sorted(range(len(members)), key=lambda i: (away[i], clips[members[i]][0].name))
        kept += [members[i] for i in order[:per_cell]]
    return [clips[at] for at in sorted(kept)]


def traits_table(traits: Sequence[Traits]) -> list[dict[str, str]]:
    """Return a row per film for people, figures with their units; tags are those that are measured."""
    return [
        {
            "film": each.film.name,
            "picture": f"{each.width}x{each.height}",
            "rate": f"{each.rate:.4g}/s",
            "length": f"{each.seconds:.1f} s",
            "sound": "yes" if each.has_sound else "no",
            "face seen": f"{100 * each.seen:.0f} %",
            "faces": f"{each.faces}",
            "face": f"{each.face_px:.0f} px",
            "luma": f"{each.luminance:.2f}",
            "contrast": f"{each.contrast:.2f}",
            "yaw": f"{each.yaw:.0f}° to {each.widest_yaw:.0f}°",
            "camera": f"{each.camera:.1f} %/s",
            "cuts": f"{each.cuts:.1f}/min",
            "tags": ", ".join(tags_of(each)) if each.seen >= SEEN else "no face",
        }
        for each in traits
    ]


def _tell(on_progress: OnProgress, number: int, total: int, scanned: Progress) -> None:
    """Say how many films are done; the one at work is told as a fact, so that it can be cancelled amid a long one."""
    on_progress(Progress("build", number, total, {"frames": scanned.done, "of": scanned.total}))


def _point(traits: Traits) -> tuple[float, ...]:
    """Return what makes a film like another, each in a scale of its own."""
    face = np.log2(max(traits.face_px, 1.0))
    return traits.luminance, traits.contrast, traits.yaw, float(face), float(np.log1p(traits.camera)), traits.cuts
