"""What clients are told: of uploads, jobs and options; nothing of where they lie on the server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from unisync import api
from unisync.api import jobs
from unisync.options import WHEN_LONGER, WHEN_SHORTER, DubOptions, hints
from unisync.server.desk import REQUEST
from unisync.server.storage import Storage
from unisync.types import Report

PREVIEW = "preview.jpg"
OURS = frozenset(item.name for item in fields(DubOptions) if item.metadata["owner"])
"""Options that a client may not choose."""
WORDS = {"when_longer": WHEN_LONGER, "when_shorter": WHEN_SHORTER}


def upload(storage: Storage, about: dict[str, Any]) -> dict[str, Any]:
    """Return what clients are told of an upload."""
    shown = {name: value for name, value in about.items() if name != "path"}
    shown["error"] = _hidden(about["error"], {about["path"]: about["title"]}, storage.root)
    if about["state"] == "running":
        try:
            text = (storage.folder(about["kind"], about["id"]) / "progress.json").read_text("utf-8")
        except OSError:
            return shown
        shown |= json.loads(text)
    return shown


class Told:
    """A job as clients see it, its events read on from where they were read to."""

    def __init__(self, storage: Storage, folder: Path, name: str) -> None:
        self.storage, self.jobs, self.id = storage, folder, name
        self.request: dict[str, Any] = json.loads((folder / name / REQUEST).read_text("utf-8"))
        self.at, self.progress = 0, {"stage": "", "done": 0, "total": 0}

    def view(self) -> dict[str, Any]:
        """Return how the job stands. Raises JobError where it was deleted."""
        job = jobs.read(self.jobs, self.id)
        found, self.at = jobs.events(self.jobs, self.id, self.at)
        for event in found:
            if event["event"] == "progress":
                self.progress = {name: event[name] for name in ("stage", "done", "total")}
        try:
            preview = (job.folder / PREVIEW).stat().st_mtime_ns // 10**6
        except OSError:
            preview = 0
        return {
            "id": job.id,
            "state": job.state,
            **{name: self.request[name] for name in ("film", "speech", "title", "still", "container")},
            "options": self.request["options"],
            "created": job.created,
            "started": job.started,
            "finished": job.finished,
            "attempts": job.attempts,
            "progress": self.progress,
            "preview": preview,
            "error": self.hidden(job.error or self.request.get("problem", "")),
            "warnings": [self.hidden(each) for each in (job.report or {}).get("warnings", [])],
            "line": Report(**job.report).line if job.report else "",
        }

    def report(self) -> dict[str, Any] | None:
        """Return the finished job's report without the server's paths."""
        found = jobs.read(self.jobs, self.id).report
        if found is None:
            return None
        clean: dict[str, Any] = json.loads(self.hidden(json.dumps(found)))
        return clean

    def hidden(self, text: str) -> str:
        return _hidden(text, self.request["paths"], self.storage.root)


def options() -> Iterator[dict[str, Any]]:
    """Yield the options that a client may choose, with what a form needs to show them."""
    types = hints(DubOptions)
    for item in fields(DubOptions):
        if item.name in OURS:
            continue
        hint = types[item.name]
        hint = next((part for part in get_args(hint) if part is not type(None)), hint) if _optional(hint) else hint
        choices: list[str] | None = [str(choice) for choice in get_args(hint)] or None
        if item.name == "method":
            choices = api.list_methods()
        elif hint is bool:
            choices = ["true", "false"]
        default = str(item.default).lower() if isinstance(item.default, bool) else item.default
        yield {
            "name": item.name,
            "help": item.metadata["help"],
            "kind": "flag" if hint is bool else "number" if hint in (int, float) else "text",
            "default": default,
            "choices": choices,
            "words": WORDS.get(item.name),
        }


def _optional(hint: Any) -> bool:
    return type(None) in get_args(hint)


def _hidden(text: str, titles: dict[str, str], root: Path) -> str:
    """Return a sentence with titles in the place of the server's paths."""
    for path, title in titles.items():
        text = text.replace(path, title)
    return re.sub(re.escape(str(root)) + r"(/[\w.-]+)*/", "", text)
