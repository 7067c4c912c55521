"""Looking at films and dubbing them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unisync.errors import OptionError
from unisync.options import DubOptions, ScanOptions
from unisync.types import OnProgress, Plan, Report

if TYPE_CHECKING:
    from unisync.media.inspect import Inspected

LAUNCHED = "TORCHELASTIC_RUN_ID"
"""What torchrun gives the processes that it starts."""


def scan(film: Path | str, *, options: ScanOptions | None = None, on_progress: OnProgress | None = None) -> Plan:
    """Look at a film: its shots, and the faces tracked in them. Raises UnisyncError."""
    from unisync.scanning import scan_film

    options = options or ScanOptions()
    return scan_film(Path(film), on_progress, box=options.box, min_face=options.min_face)


def dub(
    film: Path | str,
    speech: Path | str | None,
    out: Path | str,
    *,
    speeches: Mapping[str, Path | str] | None = None,
    options: DubOptions | None = None,
    on_progress: OnProgress | None = None,
) -> Report:
    """Write `out`: the film with the chosen faces speaking the speech. Raises UnisyncError and then leaves no `out`.

    speeches: faces, named as the option `face` does, that speak a file of their own, beside `speech` or instead of it.
    """
    from unisync.dubbing import dub_film, heard

    options = options or DubOptions()
    _check_report(options)
    with heard() as warnings, leading(options):
        report = dub_film(Path(film), _path(speech), Path(out), options, on_progress, _paths(speeches))
    report = replace(report, warnings=[*report.warnings, *warnings])
    if options.report is not None:
        Path(options.report).write_text(report.to_json(), "utf-8")
    return report


def follows() -> bool:
    """Return whether this process is one of several that torchrun started, and not the first, which alone writes a film."""
    return LAUNCHED in os.environ and int(os.environ.get("RANK", "0")) > 0


def leading(options: DubOptions) -> AbstractContextManager[None]:
    """Let other processes that torchrun started wait for what this one dubs; if it fails meanwhile they leave at once."""
    if LAUNCHED not in os.environ:
        return nullcontext()
    from unisync.backbones.wan import together

    return together.leading(options)


def follow(options: DubOptions) -> None:
    """Compute a part of what the first process dubs with a public model, until it is done. Raises UnisyncError."""
    from unisync.backbones.wan import backbone

    backbone.follow(options)


def outline(
    film: Path | str,
    speech: Path | str | None,
    out: Path | str,
    *,
    speeches: Mapping[str, Path | str] | None = None,
    options: DubOptions | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Return what `dub` would do, as plain numbers and words; nothing is painted or written. Raises UnisyncError."""
    from unisync import production

    options = options or DubOptions()
    settled = production.settle(Path(film), _path(speech), Path(out), options, on_progress, _paths(speeches))
    return production.outline(settled)


def measure(path: Path | str) -> dict[str, float]:
    """Return what a film, picture or sound is: seconds, and of what has a picture width, height, frames, still, sound.

    Raises MediaError.
    """
    from unisync.media import probe, read_sound
    from unisync.media.probe import has_picture

    path = Path(path)
    if not has_picture(path):
        return {"seconds": read_sound(path).seconds}
    film = probe(path)
    return {
        "seconds": float(film.duration),
        "width": film.width,
        "height": film.height,
        "frames": len(film),
        "still": film.still,
        "sound": film.has_sound,
    }


def inspect(path: Path | str, *, trust: Path | str | None = None) -> Inspected:
    """Read what a film says of its making. trust: authorities (PEM) that must vouch for its signer. Raises UnisyncError."""
    from unisync.media.inspect import inspect

    return inspect(Path(path), None if trust is None else Path(trust))


def demo(
    folder: Path | str,
    *,
    seconds: float | None = None,
    options: DubOptions | None = None,
    on_progress: OnProgress | None = None,
) -> Report:
    """Make a small film in `folder` and dub it there with our own words."""
    from unisync.demo import SECONDS, demo_speech, make_demo_film

    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"{folder}: cannot be made ({error.strerror}); choose another folder") from error
    film = make_demo_film(folder / "film.mp4", seconds or SECONDS)
    return dub(film, demo_speech(), folder / "dubbed.mp4", options=options, on_progress=on_progress)


def save_plan(plan: Plan, path: Path | str) -> None:
    """Write a plan as one file."""
    from unisync import scanning

    scanning.save_plan(plan, path)


def load_plan(path: Path | str) -> Plan:
    """Read a plan. Raises MediaError if it is missing or damaged."""
    from unisync import scanning

    return scanning.load_plan(path)


def contact_sheet(plan: Plan, path: Path | str) -> None:
    """Write a picture of all tracks with their names."""
    from unisync import scanning

    scanning.contact_sheet(plan, path)


def rows(plan: Plan) -> list[dict[str, str]]:
    """Return a plan's tracks as a table for people."""
    table = []
    for track in plan.tracks:
        side = float(np.median(track.boxes[:, 2:] - track.boxes[:, :2], axis=0).max())
        table.append(
            {
                "name": track.name,
                "from": f"{float(plan.seconds[track.start]):.2f} s",
                "to": f"{float(plan.seconds[track.stop - 1]):.2f} s",
                "frames": str(len(track)),
                "size": f"{side:.0f} px",
                "speaks": f"{100 * float(track.speaking.mean()):.0f} %",
            }
        )
    return table


def _path(path: Path | str | None) -> Path | None:
    return None if path is None else Path(path)


def _paths(paths: Mapping[str, Path | str] | None) -> dict[str, Path]:
    return {name: Path(path) for name, path in (paths or {}).items()}


def _check_report(options: DubOptions) -> None:
    """Refuse a report that cannot be written, before any work."""
    if options.report is None:
        return
    path = Path(options.report)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise OptionError(f"{path}: the report cannot be written there; name a file in a folder that exists")
