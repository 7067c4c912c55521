"""What requests ask for, without HTTP: uploads taken in, jobs made of them, both shown and deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from fastapi import Request
from fastapi.responses import FileResponse

from unisync.api import jobs
from unisync.errors import JobError, OptionError
from unisync.options import DubOptions, ServeOptions
from unisync.server import views
from unisync.server.desk import REQUEST, Desk, note
from unisync.server.meters import Meters
from unisync.server.problems import Refused, missing
from unisync.server.storage import ID, Kind, Storage, new_id, write_json

MEGABYTE = 10**6


class Asked:
    """The server's storage and desk, and what may be done with them."""

    def __init__(self, options: ServeOptions, meters: Meters) -> None:
        allowed = tuple(map(_folder, filter(None, (options.allow or "").split(","))))
        root = Path(options.root).absolute()
        self.storage = Storage(root, allowed, options.max_upload * MEGABYTE)
        self.desk = Desk(options, self.storage, meters)
        self.options, self.meters = options, meters

    @property
    def limits(self) -> dict[str, Any]:
        """What an upload may be."""
        return {
            "max_upload": self.storage.max_bytes,
            "max_seconds": self.options.max_seconds,
            "max_pixels": self.options.max_pixels,
            "named": bool(self.storage.allowed),
        }

    async def receive(self, kind: Kind, title: str, request: Request) -> dict[str, Any]:
        """Take in an upload; it waits to be looked at."""
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self.storage.max_bytes:
            raise Refused(413, f"the {kind} is larger than {self.options.max_upload} MB: cut or shrink it")
        await asyncio.to_thread(self.desk.check_room)
        about = await self.storage.receive(kind, title, request.stream())
        self.meters.uploaded.inc(about["bytes"])
        return self.shown(about)

    def name_path(self, kind: Kind, given: str) -> dict[str, Any]:
        """Take a file that lies on the server."""
        self.desk.check_room()
        return self.shown(self.storage.name_path(kind, given))

    def shown(self, about: dict[str, Any]) -> dict[str, Any]:
        return views.upload(self.storage, about)

    def upload(self, kind: Kind, name: str) -> dict[str, Any]:
        """Return how an upload stands."""
        return self.shown(self.storage.about(kind, name))

    def delete_upload(self, kind: Kind, name: str) -> None:
        """Delete an upload that no job needs which waits or is at work."""
        self.storage.folder(kind, name)
        for job in self.desk.every():
            if job.state in ("queued", "running") and self.job(job.id).request[kind] == name:
                raise Refused(409, f"job {job.id} needs this {kind}: cancel it first")
        self.storage.delete(kind, name)

    def create(self, film: str, speech: str, given: dict[str, Any], container: str) -> dict[str, Any]:
        """Make a job of what is ready. Raises Refused and OptionError."""
        self.desk.check_room()
        about, spoken = self._ready("film", film), self._ready("speech", speech)
        ours = sorted({name.replace("-", "_") for name in given} & views.OURS)
        if ours:
            raise OptionError(f"{', '.join(ours)}: the server's own business, and not to be chosen from elsewhere")
        options, name = DubOptions.from_dict(given), new_id()
        folder = self.desk.jobs / name
        ours_now: dict[str, Any] = {"preview": str(folder / views.PREVIEW)}
        as_long = options.when_longer == "cut" and options.when_shorter != "cut" and not about["facts"]["still"]
        if options.box is None and as_long:  # what is made longer or shorter is looked at anew
            ours_now["plan"] = str(self.storage.folder("film", film) / "film.plan")
        request = {
            "film": film,
            "speech": speech,
            "title": about["title"],
            "still": about["facts"]["still"],
            "container": container,
            "options": given,
            "problem": "",
            "paths": {about["path"]: about["title"], spoken["path"]: spoken["title"]},
        }
        full = DubOptions.from_dict(given | ours_now)
        jobs.create(self.desk.jobs, about["path"], spoken["path"], folder / f"out.{container}", full, id=name)
        write_json(folder / REQUEST, request)
        return self.job(name).view()

    def list(self, most: int) -> list[dict[str, Any]]:
        """Return how the newest jobs stand, oldest first."""
        found = []
        for job in self.desk.every()[-most:]:
            try:
                found.append(self.job(job.id).view())
            except (Refused, JobError):  # deleted meanwhile, or being made
                continue
        return found

    def job(self, name: str) -> views.Told:
        """Return a job as clients see it. Raises Refused (404)."""
        try:
            if ID.fullmatch(name):
                return views.Told(self.storage, self.desk.jobs, name)
        except FileNotFoundError:
            pass
        raise missing("job", name)

    def cancel(self, name: str) -> dict[str, Any]:
        """Cancel a job. Raises JobError where it has ended."""
        return self._after(name, jobs.cancel)

    def retry(self, name: str) -> dict[str, Any]:
        """Queue a job again. Raises JobError where it is at work."""
        self.desk.check_room()
        self.job(name)
        self.desk.tries.pop(name, None)
        note(self.desk.jobs / name, problem="")
        return self._after(name, jobs.retry)

    def delete_job(self, name: str) -> None:
        """Delete a job. Raises JobError where it is at work."""
        self.job(name)
        jobs.delete(self.desk.jobs, name)

    def result(self, name: str) -> tuple[Path, str]:
        """Return a finished film and what to call it. Raises Refused (409) where it is not finished."""
        told = self.job(name)
        if jobs.read(self.desk.jobs, name).state != "done":
            raise Refused(409, f"job {name} is not done: there is no film yet")
        container = told.request["container"]
        title = PurePosixPath(told.request["title"]).stem
        return self.desk.jobs / name / f"out.{container}", f"{title}-dubbed.{container}"

    def file(self, path: Path) -> FileResponse:
        """Return a file of ours. Raises Refused (404) where it is not there yet."""
        if not path.is_file():
            raise Refused(404, f"there is no {path.name} yet")
        return FileResponse(path)

    def _after(self, name: str, change: Callable[[Path, str], jobs.Job]) -> dict[str, Any]:
        told = self.job(name)
        change(self.desk.jobs, name)
        return told.view()

    def _ready(self, kind: Kind, name: str) -> dict[str, Any]:
        about = self.storage.about(kind, name)
        if about["state"] == "refused":
            raise Refused(409, f"this {kind} was refused: {self.shown(about)['error']}")
        if about["state"] != "ready":
            raise Refused(409, f"this {kind} is still being looked at: follow its events until it is ready")
        return about


def _folder(name: str) -> Path:
    path = Path(name.strip())
    if not path.is_dir():
        raise OptionError(f"allow: {path} is no folder")
    return path.resolve()
