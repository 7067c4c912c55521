"""What happened to a job, a line each, as it happens; and reading that from where one stopped reading."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unisync.jobs.files import now
from unisync.jobs.store import read
from unisync.types import Progress

EVENTS = "events.jsonl"
QUIET_SECONDS = 0.5
"""How long a stage is silent after it told how far it is."""
LOOK_SECONDS = 0.2


class Events:
    """Writes a job's events. A stage's progress is told at its begin and end, and now and then between."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / EVENTS
        self._told: dict[str, float] = {}
        if self._path.exists() and not self._path.read_bytes().endswith(b"\n"):
            self._append("\n")  # a line that a kill cut off is not to spoil the next one

    def tell(self, event: str, **facts: Any) -> None:
        """Add an event of that name."""
        self._append(json.dumps({"time": now(), "event": event, **facts}, ensure_ascii=False) + "\n")

    def progress(self, progress: Progress) -> None:
        """Add how far a stage is, unless that was said a moment ago."""
        due = self._told.get(progress.stage, 0.0) + QUIET_SECONDS
        if time.monotonic() >= due or progress.done == progress.total:
            self._told[progress.stage] = time.monotonic()
            self.tell("progress", stage=progress.stage, done=progress.done, total=progress.total)

    def _append(self, text: str) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(text)


def events(jobs: Path | str, id: str, start: int = 0) -> tuple[list[dict[str, Any]], int]:  # noqa: A002
    """Return a job's events from a place in its file on, and the place to go on from. Raises JobError.

    Each has "time" and "event": "progress" with stage, done and total, "window" with kept and painted, or a state's name.
    """
    path = read(jobs, id).folder / EVENTS
    if not path.exists():
        return [], start
    with path.open("rb") as file:
        file.seek(start)
        whole, newline, _ = file.read().rpartition(b"\n")
    found = []
    for line in whole.splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue  # cut off by a kill
    return found, start + len(whole) + len(newline)


def follow(jobs: Path | str, id: str) -> Iterator[dict[str, Any]]:  # noqa: A002
    """Yield a job's events as they come, until it is neither waiting nor at work."""
    start = 0
    while True:
        ended = read(jobs, id).state not in ("queued", "running")
        found, start = events(jobs, id, start)
        yield from found
        if ended:
            return
        time.sleep(LOOK_SECONDS)
