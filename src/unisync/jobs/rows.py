"""Many films at once: rows of a table, or the files of a pattern, each as the job that makes its film.

A row's job has an id by what is asked for, so that asking again finds what was done.
"""

from __future__ import annotations

import csv
import glob
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from unisync.errors import JobError, OptionError, UnisyncError
from unisync.jobs.files import print_of
from unisync.jobs.store import Job, create, list_jobs, read
from unisync.options import DubOptions, hints
from unisync.parse import suggest

JOBS = "jobs"
"""The folder of a batch's jobs, in its output folder."""
FILMS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".flv", ".mpg", ".mpeg", ".ts", ".gif")
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
SPEECHES = (".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".opus")
WRITABLE = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
COLUMNS = ("film", "speech", "speak", "out")


@dataclass(frozen=True)
class Row:
    """One film that is asked for. name: of the row, for messages.  out: None is by the film's name."""

    name: str
    film: Path
    speech: Path | None = None
    out: Path | None = None
    speeches: Mapping[str, Path] = field(default_factory=dict)
    options: DubOptions = DubOptions()  # noqa: RUF009 - it is frozen
    problem: str | None = None


@dataclass(frozen=True)
class Result:
    """What came of a row, as plain words and numbers. state: as a job's, or "refused" where none was made."""

    row: str
    film: str
    out: str | None
    state: str
    job: str | None = None
    error: str | None = None
    frames: int | None = None
    seconds: float | None = None
    warnings: Sequence[str] = ()


def read_rows(source: str, speech: Path | None, speeches: Mapping[str, Path], values: Mapping[str, Any]) -> list[Row]:
    """Return the rows of a CSV file, or one for each file of a pattern. Raises OptionError.

    speech, speeches, values: of rows that say nothing of their own. Paths in the table start from its folder.
    """
    options = DubOptions.from_dict(values)
    if not source.lower().endswith(".csv"):
        films = [Path(name) for name in sorted(glob.glob(source, recursive=True)) if Path(name).is_file()]
        if not films:
            raise OptionError(f"{source}: there is no such file; name a table (.csv) or a pattern of films")
        return [Row(str(film), film, speech, None, speeches, options) for film in films]
    path = Path(source)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file, strict=True)
            names = [name.strip().replace("-", "_") for name in table.fieldnames or ()]
            rows = [dict(zip(names, line.values(), strict=False)) for line in table]
    except OSError as error:
        raise OptionError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise OptionError(f"{path}: is no table with commas ({error})") from error
    known = (*COLUMNS, *hints(DubOptions))
    strange = next((name for name in names if name not in known), None)
    if strange is not None or "film" not in names:
        what = "there is no column 'film'" if strange is None else f"there is no option {strange!r}"
        raise OptionError(f"{path}: {what}{suggest(strange or '', known)}")
    given = Row("", Path(), speech, None, speeches, options)
    return [_row(path, number, row, given, values) for number, row in enumerate(rows, 2)]


def _row(path: Path, number: int, cells: Mapping[str, str | None], given: Row, values: Mapping[str, Any]) -> Row:
    """Return a line of a table as a row; what is wrong with it is the row's problem."""
    name, home = f"{path.name}:{number}", path.absolute().parent
    cell = {key: text.strip() for key, text in cells.items() if isinstance(text, str) and text.strip()}
    film, speech = home / cell.get("film", ""), given.speech
    out = Path(cell["out"]) if "out" in cell else None
    try:
        if "film" not in cell:
            raise OptionError("names no film")
        if "speech" in cell:
            speech = home / cell["speech"]
        own = dict(given.speeches)
        for text in filter(None, cell.get("speak", "").split(";")):
            face, _, file = (part.strip() for part in text.partition("="))
            if not face or not file:
                raise OptionError(f"speak {text!r} is not NAME=FILE; NAME=FILE …")
            own[face] = home / file
        said = {key: _value(key, text) for key, text in cell.items() if key not in COLUMNS}
        options = DubOptions.from_dict({**values, **said})
    except OptionError as error:
        return Row(name, film, out=out, problem=str(error))
    return Row(name, film, speech, out, own, options)


def _value(name: str, text: str) -> Any:
    """Return a cell's text as the option's own kind. Raises OptionError."""
    hint = hints(DubOptions)[name]
    kinds = {kind for kind in (hint, *get_args(hint)) if kind in (bool, int, float)}
    if bool in kinds:
        if text.lower() not in ("true", "false"):
            raise OptionError(f"{name} must be true or false, not {text!r}")
        return text.lower() == "true"
    for kind in (int, float):
        if kind in kinds:
            with suppress(ValueError):
                return kind(text)
    return text


def jobs_of(rows: Iterable[Row], out: Path) -> tuple[list[tuple[Row, Job]], list[Result]]:
    """Return a job for each row, made or found again in the folder `out`, and what is refused.

    Raises JobError for a folder that cannot be written.
    """
    try:
        (out / JOBS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JobError(f"{out} cannot be written ({error.strerror}); choose another folder") from error
    ours = {job.out for job in list_jobs(out / JOBS) if job.attempts}
    made, refused, taken = list[tuple[Row, Job]](), list[Result](), dict[Path, str]()
    for row in rows:
        suffix = row.film.suffix if row.film.suffix.lower() in WRITABLE else ".mp4"
        goal = (out / (row.out or f"{row.film.stem}{suffix}")).absolute()
        try:
            if row.problem is not None:
                raise OptionError(row.problem)
            if goal in taken:
                raise OptionError(f"{goal} is what {taken[goal]} writes: name another")
            if goal.exists() and goal not in ours:
                raise OptionError(f"{goal} is there already, and none of ours: move it away, or name another")
            goal.parent.mkdir(parents=True, exist_ok=True)
            made.append((row, _job(row, goal, out / JOBS)))
            taken[goal] = row.name
        except (UnisyncError, OSError) as error:
            refused.append(Result(row.name, str(row.film), str(goal), "refused", error=str(error)))
    return made, refused


def _job(row: Row, goal: Path, jobs: Path) -> Job:
    """Return the job of a row: the one that was made of the same files and options, else a new one."""
    cast = {name: str(path.absolute()) for name, path in row.speeches.items()}
    files = [row.film, *([row.speech] if row.speech else []), *row.speeches.values()]
    prints = [(str(path.absolute()), print_of(path)) for path in files]
    facts = [prints, bool(row.speech), cast, str(goal), row.options.to_dict()]
    tail = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    try:
        return read(jobs, tail)
    except JobError:
        return create(jobs, row.film, row.speech, goal, row.options, speeches=row.speeches, id=tail)


def result_of(row: Row, job: Job) -> Result:
    """Return what came of a row's job."""
    report = job.report or {}
    return Result(
        row.name,
        str(row.film),
        str(job.out),
        job.state,
        job.id,
        job.error,
        report.get("frames"),
        report.get("seconds"),
        report.get("warnings", ()),
    )
