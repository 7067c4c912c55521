"""A folder that is looked at again and again: a film and a speech of the same name in it become a dubbed film."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from unisync.errors import OptionError
from unisync.jobs.files import Print, print_of
from unisync.jobs.pool import run_all
from unisync.jobs.rows import FILMS, PICTURES, SPEECHES, Result, Row, jobs_of, result_of
from unisync.options import DubOptions

LOOK_SECONDS = 1.0


class Arrivals:
    """Tells files that are whole from those still being written: whole is what has not changed for a while.

    seconds: how long a file must have stayed as it is.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._seen: dict[Path, tuple[Print, float]] = {}

    def look(self, folder: Path, moment: float) -> tuple[list[Path], bool]:
        """Return the folder's whole files by name, and whether others are on the way; empty ones are left aside.

        moment: in seconds, on a clock that never goes back.
        """
        whole, before = [], self._seen
        self._seen = {}
        for path in sorted(folder.iterdir()):
            known = None if path.name.startswith(".") or not path.is_file() else print_of(path)
            if known is not None and known[0]:
                same = path in before and before[path][0] == known
                self._seen[path] = before[path] if same else (known, moment)
                if moment - self._seen[path][1] >= self._seconds:
                    whole.append(path)
        return whole, len(whole) < len(self._seen)


def watch(
    folder: Path, out: Path, options: DubOptions, *, at_once: int = 1, seconds: float = 3.0, once: bool = False
) -> Iterator[Result]:
    """Yield what came of each film and speech of the same stem in a folder, as they arrive; for ever, or once.

    Nothing in the folder is changed, and no file that is not ours is written over. seconds: how long a file must have
    stayed as it is to count as whole.  Raises OptionError for a folder that is not there.
    """
    if not folder.is_dir():
        raise OptionError(f"{folder} is no folder: make it, or name another")
    if out.absolute() == folder.absolute():
        raise OptionError(f"{out}: films are written elsewhere than into the folder that is watched; name another")
    arrivals, told = Arrivals(seconds), set[tuple[str, Print | None, str, Print | None]]()
    while True:
        whole, more = arrivals.look(folder, time.monotonic())
        rows = []
        for row in pairs(whole, options):
            assert row.speech is not None
            known = (str(row.film), print_of(row.film), str(row.speech), print_of(row.speech))
            if known not in told:
                told.add(known)
                rows.append(row)
        made, refused = jobs_of(rows, out)
        yield from refused
        names = {job.id: row for row, job in made}
        for job in run_all([job for _, job in made], at_once):
            yield result_of(names[job.id], job)
        if once and not more:
            return
        time.sleep(0 if rows else LOOK_SECONDS)


def pairs(paths: list[Path], options: DubOptions) -> list[Row]:
    """Return a row for each film and speech of the same stem."""
    films = [path for path in paths if path.suffix.lower() in (*FILMS, *PICTURES)]
    speeches = [path for path in paths if path.suffix.lower() in SPEECHES]
    return [Row(f.name, f, s, options=options) for f, s in product(films, speeches) if f.stem == s.stem]
