"""Tables that lie beside films and say what belongs together: CSV and JSON in the shapes that people write them."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from unisync.bench.suite import FILMS, STILLS, SUFFIXES
from unisync.errors import OptionError

MANIFESTS = (".csv", ".tsv", ".json", ".jsonl", ".ndjson")
COLUMNS = {
    "film": (
        *("film", "video", "face", "visual", "source", "source_video", "input", "input_video", "video_name"),
        *("portrait", "image", "filename", "file_name", "file", "clip", "path"),
    ),
    "speech": (
        *("speech", "audio", "driving", "driving_audio", "driven_audio", "target_audio", "input_audio", "audio_name"),
        *("sound", "voice", "wav"),
    ),
    "truth": ("truth", "gt", "ground_truth", "reference", "ref", "reference_video", "target", "target_video"),
    "name": ("name", "id", "clip_id"),
}
"""What columns of manifests are called, surest first; capitals, and an ending _path or _file, do not matter."""
YES, NO = ("1", "true", "yes", "y"), ("", "0", "false", "no", "n", "none", "null", "nan", "-")
"""Words of columns that say whether something is so."""


@dataclass(frozen=True)
class Manifest:
    """A manifest. rows: a dictionary per clip, columns by their plain names."""

    path: Path
    rows: list[dict[str, Any]]


def read_manifest(folder: Path) -> Manifest | None:
    """Return the folder's first table with a column of films; those called manifest or metadata first."""
    paths = [path for path in folder.iterdir() if path.suffix.lower() in MANIFESTS and not path.name.startswith(".")]
    paths.sort(key=lambda path: (not re.match(r"manifest|meta", path.stem.lower()), path.name))
    for path in paths:
        rows = [{_column(name): value for name, value in row.items() if name} for row in _rows(path)]
        if rows and any(cell(row, "film") for row in rows):
            return Manifest(path, rows)
    return None


def _column(name: str) -> str:
    plain = re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_")
    return re.sub(r"_(path|file|filepath|filename)$", "", plain) if plain != "file_name" else plain


def _rows(path: Path) -> list[dict[str, Any]]:
    """Return a table's rows; a JSON that is no table has none. Raises OptionError for what cannot be parsed."""
    kind = path.suffix.lower()
    try:
        text = path.read_text("utf-8-sig")
        if kind in (".csv", ".tsv"):
            return list(csv.DictReader(io.StringIO(text), delimiter="\t" if kind == ".tsv" else ","))
        lines = text.splitlines() if kind in (".jsonl", ".ndjson") else []
        values = [json.loads(line) for line in lines if line.strip()] if lines else json.loads(text or "[]")
    except OSError as error:
        raise OptionError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, csv.Error) as error:
        raise OptionError(f"{path}: is no table that can be read ({error}); mend it, or import as plain") from error
    return list(_tables(values))


def _tables(values: Any) -> Iterator[dict[str, Any]]:
    """Yield the rows of a JSON table: a list, a list under one key, or a row per name."""
    if isinstance(values, dict):
        inner = list(values.values())
        lists = [value for value in inner if isinstance(value, list) and value and isinstance(value[0], dict)]
        if len(lists) == 1:
            values = lists[0]
        elif inner and all(isinstance(value, dict) for value in inner):
            values = [_keyed(key, row) for key, row in values.items()]
    if isinstance(values, list):
        yield from (row for row in values if isinstance(row, dict))


def _keyed(key: str, row: dict[str, Any]) -> dict[str, Any]:
    """Return a row that stands under a film's or a clip's name."""
    return {"film" if Path(key).suffix.lower() in FILMS + STILLS else "name": key} | row


def cell(row: dict[str, Any], what: str) -> str:
    """Return what a row says under the names for it, or "": what looks like such a file first, never yes or no."""
    values = [str(row[name]).strip() for name in COLUMNS[what] if isinstance(row.get(name), str | int)]
    values = [value for value in values if value.lower() not in (*YES, *NO) or what == "name"]
    files = (value for value in values if PurePosixPath(value).suffix.lower() in SUFFIXES.get(what, ()))
    return next(files, next((value for value in values if value), ""))
