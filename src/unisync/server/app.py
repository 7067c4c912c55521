"""The REST interface: what can be asked for, and by which address. Its description is at /openapi.json."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import Enum
from importlib.resources import files
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from unisync import __version__
from unisync.errors import JobError, UnisyncError
from unisync.options import ServeOptions
from unisync.server import views
from unisync.server.asked import Asked
from unisync.server.desk import Desk
from unisync.server.guard import COOKIE, PAGE, Guard
from unisync.server.meters import Metered, Meters
from unisync.server.problems import Refused
from unisync.server.storage import Kind

EVENT_SECONDS, HEARTBEAT = 0.25, 60
"""How often a stream looks whether something changed, and after how many looks it says that it is there."""
Tags = list[str | Enum]


class NewJob(BaseModel):
    """What a job is made of: ids of a film and a speech, options by name, and the kind of file to write."""

    film: str
    speech: str
    options: dict[str, Any] = Field(default_factory=dict)
    container: Literal["mp4", "mov", "mkv", "webm"] = "mp4"


class Named(BaseModel):
    """A file in a folder that the server allows, relative to it or absolute."""

    path: str


class Session(BaseModel):
    """The token, for browsers, which cannot send it with films and events."""

    token: str


def make_app(options: ServeOptions, token: str | None) -> FastAPI:
    """Return the application. token: None lets everybody on this machine in."""
    meters = Meters()
    asked = Asked(options, meters)

    @asynccontextmanager
    async def alive(_: FastAPI) -> AsyncIterator[None]:
        asked.storage.sweep()
        asked.desk.begin()
        working = asyncio.create_task(asked.desk.run())
        yield
        await asked.desk.end()
        await working

    app = FastAPI(title="UniSync", version=__version__, lifespan=alive, docs_url=None, redoc_url=None)
    app.state.desk = asked.desk
    _add_errors(app)
    _add_page(app, asked, meters)
    _add_session(app, asked, token)
    _add_uploads(app, asked, "film", "films")
    _add_uploads(app, asked, "speech", "speeches")
    _add_jobs(app, asked)
    app.add_middleware(Guard, token=token)
    app.add_middleware(Metered, meters=meters)
    return app


def _add_errors(app: FastAPI) -> None:
    """Let every error leave as JSON with one sentence."""

    @app.exception_handler(UnisyncError)
    async def refused(_: Request, error: UnisyncError) -> JSONResponse:
        status = error.status if isinstance(error, Refused) else 409 if isinstance(error, JobError) else 400
        return JSONResponse({"error": str(error)}, status)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body")
        return JSONResponse({"error": f"{where or 'the body'}: {first['msg']}"}, 422)

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": f"{error.detail}: /openapi.json says what there is"}, error.status_code)

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": f"unforeseen {type(error).__name__}: the server's log says where"}, 500)


def _add_page(app: FastAPI, asked: Asked, meters: Meters) -> None:
    folder = files("unisync") / "server" / "page"

    def own(name: str, kind: str) -> Callable[[], Awaitable[Response]]:
        content = (folder / name).read_bytes()

        async def send() -> Response:
            return Response(content, media_type=kind, headers={"cache-control": "no-cache"})

        return send

    for path, (name, kind) in PAGE.items():
        app.get(path, include_in_schema=False)(own(name, kind))

    @app.get("/healthz", tags=["server"])
    async def healthz() -> dict[str, bool]:
        """Say that the server is there, and whether it takes work."""
        return {"ok": True, "stopping": asked.desk.stopping}

    @app.get("/metrics", tags=["server"])
    async def metrics() -> Response:
        """Return counters in Prometheus' text format."""
        return Response(meters.text(), media_type="text/plain; version=0.0.4")


def _add_session(app: FastAPI, asked: Asked, token: str | None) -> None:
    guard = Guard(app, token)

    @app.get("/api/session", tags=["server"])
    async def session(request: Request) -> dict[str, Any]:
        """Say whether a token is wanted and known, and what the server takes."""
        known = guard.admits(request.headers)
        return {"version": __version__, "token": token is not None, "known": known, "limits": asked.limits}

    @app.post("/api/session", tags=["server"])
    async def log_in(given: Session, request: Request) -> Response:
        """Keep the token in a cookie that scripts cannot read."""
        if not guard.knows(given.token):
            raise Refused(401, "this is not the token: ask whoever started the server")
        answer = JSONResponse({"known": True})
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, given.token, httponly=True, samesite="strict", secure=secure)
        return answer

    @app.get("/api/options", tags=["jobs"])
    def options() -> dict[str, Any]:
        """Return the options that a job may have."""
        return {"options": list(views.options())}


def _add_uploads(app: FastAPI, asked: Asked, kind: Kind, plural: str) -> None:
    place, tags = f"/api/{plural}", Tags([plural])
    body = {"requestBody": {"required": True, "content": {"application/octet-stream": {}}}}

    @app.post(place, status_code=201, tags=tags, openapi_extra=body, name=f"send a {kind}")
    async def send(request: Request, name: str) -> dict[str, Any]:
        """Send the file as the body. name: what it is called; its ending says what it is."""
        return await asked.receive(kind, name, request)

    @app.post(f"{place}/named", status_code=201, tags=tags, name=f"name a {kind}")
    def named(given: Named) -> dict[str, Any]:
        """Take a file that lies on the server, in a folder that it allows."""
        return asked.name_path(kind, given.path)

    @app.get(place, tags=tags, name=f"list {plural}")
    def every() -> dict[str, Any]:
        """List them, oldest first."""
        return {plural: [asked.shown(about) for about in asked.storage.every(kind)]}

    @app.get(f"{place}/{{id}}", tags=tags, name=f"read a {kind}")
    def one(id: str) -> dict[str, Any]:  # noqa: A002
        """Say how it stands: queued, running, ready or refused."""
        return asked.upload(kind, id)

    @app.delete(f"{place}/{{id}}", tags=tags, name=f"delete a {kind}")
    def delete(id: str) -> dict[str, bool]:  # noqa: A002
        """Delete it, if no job that waits or is at work needs it."""
        asked.delete_upload(kind, id)
        return {"deleted": True}

    @app.get(f"{place}/{{id}}/file", tags=tags, name=f"fetch a {kind}")
    def file(id: str) -> FileResponse:  # noqa: A002
        """Return the file itself; ranges are served."""
        return FileResponse(asked.storage.about(kind, id)["path"])

    @app.get(f"{place}/{{id}}/events", tags=tags, name=f"follow a {kind}")
    async def events(id: str) -> StreamingResponse:  # noqa: A002
        """Tell by server-sent events how it stands, until it is ready or refused."""
        await asyncio.to_thread(asked.upload, kind, id)
        return _stream(lambda: asked.upload(kind, id), ("queued", "running"), asked.desk)

    if kind == "film":

        @app.get(f"{place}/{{id}}/faces.png", tags=tags)
        def faces(id: str) -> FileResponse:  # noqa: A002
            """Return a picture of the faces found, in the order in which they are listed."""
            return asked.file(asked.storage.folder(kind, id) / "faces.png")


def _add_jobs(app: FastAPI, asked: Asked) -> None:
    tags = Tags(["jobs"])

    @app.post("/api/jobs", status_code=201, tags=tags)
    def create(new: NewJob) -> dict[str, Any]:
        """Make a job of a film and a speech that are ready; it waits for its turn."""
        return asked.create(new.film, new.speech, new.options, new.container)

    @app.get("/api/jobs", tags=tags)
    def every(most: Annotated[int, Query(ge=1, le=10_000)] = 100) -> dict[str, Any]:
        """List the newest jobs, oldest first."""
        return {"jobs": asked.list(most)}

    @app.get("/api/jobs/{id}", tags=tags)
    def one(id: str) -> dict[str, Any]:  # noqa: A002
        """Say how a job stands: queued, running, interrupted, done, failed or cancelled."""
        return asked.job(id).view()

    @app.post("/api/jobs/{id}/cancel", tags=tags)
    def cancel(id: str) -> dict[str, Any]:  # noqa: A002
        """Cancel a job that waits or is at work."""
        return asked.cancel(id)

    @app.post("/api/jobs/{id}/retry", tags=tags)
    def retry(id: str) -> dict[str, Any]:  # noqa: A002
        """Queue a job again that has ended."""
        return asked.retry(id)

    @app.delete("/api/jobs/{id}", tags=tags)
    def delete(id: str) -> dict[str, bool]:  # noqa: A002
        """Delete a job that is not at work, with its film."""
        asked.delete_job(id)
        return {"deleted": True}

    @app.get("/api/jobs/{id}/events", tags=tags)
    async def events(id: str) -> StreamingResponse:  # noqa: A002
        """Tell by server-sent events how a job stands, until it has ended."""
        told = await asyncio.to_thread(asked.job, id)
        return _stream(told.view, ("queued", "running"), asked.desk)

    @app.get("/api/jobs/{id}/result", tags=tags)
    def result(id: str, download: bool = False) -> FileResponse:  # noqa: A002
        """Return the finished film; ranges are served. download: as a file to keep."""
        path, name = asked.result(id)
        return FileResponse(path, filename=name, content_disposition_type="attachment" if download else "inline")

    @app.get("/api/jobs/{id}/preview.jpg", tags=tags)
    def preview(id: str) -> FileResponse:  # noqa: A002
        """Return the frame that was finished last."""
        return asked.file(asked.job(id).jobs / id / views.PREVIEW)

    @app.get("/api/jobs/{id}/report", tags=tags)
    def report(id: str) -> dict[str, Any]:  # noqa: A002
        """Return what was done to a finished film."""
        found = asked.job(id).report()
        if found is None:
            raise Refused(409, "there is no report yet: the job is not done")
        return found


def _stream(view: Callable[[], dict[str, Any]], going: tuple[str, ...], desk: Desk) -> StreamingResponse:
    """Return server-sent events: `state` with every change, `end` with the last."""

    async def tell() -> AsyncIterator[str]:
        last, quiet = "", 0
        while not desk.stopping:
            try:
                now = await asyncio.to_thread(view)
            except UnisyncError:  # deleted meanwhile
                break
            text = json.dumps(now, ensure_ascii=False)
            if text != last:
                yield f"event: state\ndata: {text}\n\n"
                last, quiet = text, 0
            if now["state"] not in going:
                break
            quiet += 1
            if quiet % HEARTBEAT == 0:
                yield ": still there\n\n"
            await asyncio.sleep(EVENT_SECONDS)
        yield "event: end\ndata: {}\n\n"

    return StreamingResponse(tell(), media_type="text/event-stream", headers={"x-accel-buffering": "no"})
