"""The verbs. Everything a doorstep may ask for; each imports what it needs when it is called."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unisync.errors import OptionError
from unisync.options import DubOptions, PrepareOptions, ScanOptions, TrainOptions
from unisync.types import OnProgress, Plan, Report

if TYPE_CHECKING:
    from unisync.doctor import Check
    from unisync.models import Found
    from unisync.train.assemble import Prepared

__all__ = [
    "Evaluated",
    "build_suite",
    "check_models",
    "compare",
    "contact_sheet",
    "demo",
    "doctor",
    "dub",
    "evaluate",
    "import_suite",
    "list_models",
    "load_plan",
    "model_rows",
    "models_folder",
    "prepare",
    "recognise",
    "rows",
    "save_plan",
    "scan",
    "train",
]


def scan(film: Path | str, *, options: ScanOptions | None = None, on_progress: OnProgress | None = None) -> Plan:
    """Look at a film: its shots, and the faces tracked in them. Raises UnisyncError."""
    from unisync.scan import scan_film

    options = options or ScanOptions()
    return scan_film(Path(film), on_progress, box=options.box, min_face=options.min_face)


def dub(
    film: Path | str,
    speech: Path | str,
    out: Path | str,
    *,
    options: DubOptions | None = None,
    on_progress: OnProgress | None = None,
) -> Report:
    """Write `out`: the film with the chosen faces speaking the speech. Raises UnisyncError and then leaves no `out`."""
    from unisync.dub import dub_film

    options = options or DubOptions()
    _check_report(options)
    with _heard() as warnings:
        report = dub_film(Path(film), Path(speech), Path(out), options, on_progress)
    report = replace(report, warnings=[*report.warnings, *warnings])
    if options.report is not None:
        Path(options.report).write_text(report.to_json(), "utf-8")
    return report


def prepare(
    folder: Path | str,
    out: Path | str,
    *,
    options: PrepareOptions | None = None,
    on_progress: OnProgress | None = None,
) -> Prepared:
    """Write the dataset `out` from the films in a folder, or go on where that was stopped. Raises UnisyncError."""
    from unisync.train import prepare as preparing

    return preparing.prepare(Path(folder), Path(out), options or PrepareOptions(), on_progress)


def train(recipe: Path | str, *, options: TrainOptions | None = None) -> Path:
    """Train by a recipe and return the file written; a run that was stopped goes on. Raises UnisyncError."""
    from unisync.train.recipe import read_recipe
    from unisync.train.run import train_by

    return train_by(read_recipe(Path(recipe), options or TrainOptions()))


@dataclass(frozen=True)
class Evaluated:
    """report: the page for people.  text: the tables as Markdown.  cells, finished, failed: films wanted, made and not."""

    report: Path
    text: str
    cells: int
    finished: int
    failed: int


def evaluate(
    suite: Path | str,
    out: Path | str,
    *,
    films: Path | str | None = None,
    jobs: int = 1,
    ratings: Iterable[Path | str] = (),
    on_progress: OnProgress | None = None,
) -> Evaluated:
    """Carry out a suite in the folder `out`, or go on; write results, tables and a report. Raises UnisyncError.

    films: a folder of films for a suite that names no clips.
    """
    from unisync.bench import report, run, tables
    from unisync.bench.importers import import_folder
    from unisync.bench.suite import read_suite

    clips = import_folder(Path(films)).clips if films is not None else ()
    wanted, rated, out = read_suite(Path(suite), clips), report.read_ratings(map(Path, ratings)), Path(out)
    run.evaluate(wanted, out, jobs, on_progress)
    results = tables.read_results(out, rated)
    made = tables.sheets(wanted, results)
    tables.write_tables(made, wanted, out)
    states = [row["status"] for row in results if "status" in row]
    text = "\n".join(map(tables.markdown, made))
    page = report.write_report(out, made)
    return Evaluated(page, text, len(states), states.count("finished"), states.count("failed"))


def compare(first: Path | str, second: Path | str) -> str:
    """Return what changed from one evaluation's folder to another's, as Markdown. Raises OptionError."""
    from unisync.bench import tables

    return tables.markdown(tables.diff(Path(first), Path(second)))


def import_suite(folder: Path | str, out: Path | str, *, layout: str = "auto") -> int:
    """Write a suite of the films in a folder and return how many there are. Raises OptionError."""
    from unisync.bench.importers import Layout, import_folder
    from unisync.bench.suite import write_suite
    from unisync.parse import fitted

    suite = import_folder(Path(folder), fitted(Layout, layout, "layout"))
    write_suite(suite, Path(out))
    return len(suite.clips)


def build_suite(
    folder: Path | str, out: Path | str, *, per_cell: int = 0, on_progress: OnProgress | None = None
) -> list[dict[str, str]]:
    """Write a suite of the films in a folder, arranged by what they show; return what was measured, as a table."""
    from unisync.bench.builder import build, traits_table
    from unisync.bench.suite import write_suite

    suite, traits = build(Path(folder), per_cell, on_progress)
    write_suite(suite, Path(out))
    return traits_table(traits)


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


def doctor() -> Iterator[Check]:
    """Yield what was found on this machine, one check at a time."""
    from unisync.doctor import check_all

    return check_all()


def recognise(
    backbone: Path | str,
    *,
    adapter: Path | str | None = None,
    vae: Path | str | None = None,
    loras: Iterable[Path | str] = (),
) -> Iterator[str]:
    """Yield what a large public model's files are, a line each. Raises WeightsError at the first that does not go with it.

    Only the headers are read, but of a LoRA all.
    """
    from unisync.nets.wan.files import WeightFiles
    from unisync.nets.wan.lora_files import read_lora, shapes_of
    from unisync.nets.wan.recognise import check_pair, vae_latents

    files = WeightFiles(Path(backbone))
    base = files.recognise()
    yield f"{backbone}: {base.line}; {files.precision}"
    if adapter is not None:
        added = WeightFiles(Path(adapter))
        kind = added.recognise()
        check_pair(base, kind)
        yield f"{adapter}: {kind.line}; {added.precision}"
    if vae is not None:
        latents = vae_latents(WeightFiles(Path(vae)).shapes, vae)
        check_pair(base, latents=latents)
        yield f"{vae}: an autoencoder of {latents} channels"
    for path in loras:
        changes = read_lora(Path(path))
        check_pair(base, lora=shapes_of(changes))
        yield f"{path}: a LoRA of {len(changes)} modules"


def models_folder(folder: Path | str | None = None) -> Path:
    """Return the folder in which published weights are looked for, unless one is chosen."""
    from unisync import models

    return models.models_folder(None if folder is None else Path(folder))


def list_models(folder: Path | str | None = None) -> list[Found]:
    """Return how every known file of published weights stands."""
    from unisync import models

    place = models_folder(folder)
    return [models.stand(model, place) for model in models.MODELS]


def model_rows(folder: Path | str | None = None) -> list[dict[str, str]]:
    """Return the same as a table for people."""
    return [
        {"file": f.model.name, "state": f.state, "for": f.model.use, "by": f.model.source, "terms": f.model.terms}
        for f in list_models(folder)
    ]


def check_models(folder: Path | str | None = None) -> Iterator[Found]:
    """Yield how every file that is there stands once it was read as its network does, one at a time."""
    from unisync.errors import WeightsError
    from unisync.nets.published import FILES, load_published

    for found in list_models(folder):
        if found.model.name in FILES and found.state in ("whole", "sum not known"):
            try:
                load_published(found.model.name, found.path)
            except WeightsError as error:
                found = replace(found, state="damaged", problem=str(error))
            else:
                found = found if found.state == "whole" else replace(found, state="sum not known, its tensors fit")
        if found.state != "missing":
            yield found


def save_plan(plan: Plan, path: Path | str) -> None:
    """Write a plan as one file."""
    from unisync import scan as scanning

    scanning.save_plan(plan, path)


def load_plan(path: Path | str) -> Plan:
    """Read a plan. Raises MediaError if it is missing or damaged."""
    from unisync import scan as scanning

    return scanning.load_plan(path)


def contact_sheet(plan: Plan, path: Path | str) -> None:
    """Write a picture of all tracks with their names."""
    from unisync import scan as scanning

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


def _check_report(options: DubOptions) -> None:
    """Refuse a report that cannot be written, before any work."""
    if options.report is None:
        return
    path = Path(options.report)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise OptionError(f"{path}: the report cannot be written there; name a file in a folder that exists")


@contextmanager
def _heard() -> Iterator[list[str]]:
    """Collect what the floors below log as warnings."""
    warnings: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if (message := record.getMessage()) not in warnings:
                warnings.append(message)

    log, ear = logging.getLogger("unisync"), Ear(logging.WARNING)
    log.addHandler(ear)
    try:
        yield warnings
    finally:
        log.removeHandler(ear)
