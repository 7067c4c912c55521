"""Where uploads lie: a folder each, named by us, with what is known of it in one JSON file that is replaced whole."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from starlette.requests import ClientDisconnect

from unisync.server.problems import Refused, missing
from unisync.whole import write_whole

Kind = Literal["film", "speech"]
PLURAL: dict[Kind, str] = {"film": "films", "speech": "speeches"}
ID = re.compile(r"[0-9a-f]{16}")
FILMS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".flv", ".wmv", ".3gp", ".ts", ".mpg", ".gif")
PICTURES = (".jpg", ".jpeg", ".png", ".webp")
SOUNDS = (".wav", ".flac", ".mp3", ".m4a", ".ogg", ".opus", ".aac")
SUFFIXES: dict[Kind, tuple[str, ...]] = {"film": FILMS + PICTURES, "speech": SOUNDS + FILMS}
"""What an upload's name may end in here; FFmpeg and browsers take it as a hint."""
STALL_SECONDS = 60
"""A client that sends nothing for so long is given up."""
LONGEST_TITLE = 200


def new_id() -> str:
    """Return a name that nobody can guess."""
    return secrets.token_hex(8)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write JSON so that a reader sees the old or the new, never half."""
    write_whole(path, json.dumps(values, ensure_ascii=False))


def print_of(path: Path) -> tuple[int, int]:
    """Return by what a file that is replaced whole is known again. Raises FileNotFoundError."""
    found = path.stat()
    return found.st_mtime_ns, found.st_ino


class Storage:
    """The folder of a server. allowed: folders whose files may be named; max_bytes: of an upload."""

    def __init__(self, root: Path, allowed: tuple[Path, ...], max_bytes: int) -> None:
        self.root, self.allowed, self.max_bytes = root, allowed, max_bytes
        self._known: dict[Path, tuple[tuple[int, int], dict[str, Any]]] = {}

    def folder(self, kind: Kind, name: str) -> Path:
        """Return the folder of what was uploaded. Raises Refused (404); no name leads out of the root."""
        folder = self.root / PLURAL[kind] / name
        if not ID.fullmatch(name) or not (folder / "about.json").is_file():
            raise missing(kind, name)
        return folder

    def about(self, kind: Kind, name: str) -> dict[str, Any]:
        """Return what is known of an upload. Raises Refused (404)."""
        path = self.folder(kind, name) / "about.json"
        try:
            print_ = print_of(path)
            known = self._known.get(path)
            if known is None or known[0] != print_:
                known = self._known[path] = print_, json.loads(path.read_text("utf-8"))
        except FileNotFoundError as error:  # deleted meanwhile
            raise missing(kind, name) from error
        return dict(known[1])

    def change(self, kind: Kind, name: str, **values: Any) -> dict[str, Any]:
        """Return what is known of an upload after some of it was changed."""
        about = self.about(kind, name) | values
        write_json(self.folder(kind, name) / "about.json", about)
        return about

    def every(self, kind: Kind) -> list[dict[str, Any]]:
        """Return what is known of all uploads of a kind, oldest first."""
        found = []
        for folder in (self.root / PLURAL[kind]).glob("*/"):
            try:
                found.append(self.about(kind, folder.name))
            except Refused:
                continue
        return sorted(found, key=lambda about: about["created"])

    async def receive(self, kind: Kind, title: str, stream: AsyncIterator[bytes]) -> dict[str, Any]:
        """Write an upload as it comes and return what is known of it; one that fails leaves nothing."""
        suffix = PurePosixPath(title).suffix.lower()
        if suffix not in SUFFIXES[kind]:
            raise Refused(415, f"a {kind}'s name ends in one of {', '.join(SUFFIXES[kind])}, not in {suffix!r}")
        name = new_id()
        folder = self.root / PLURAL[kind] / name
        folder.mkdir(parents=True)
        path, size = folder / f"{kind}{suffix}", 0
        try:
            with path.open("wb") as file:
                chunks = aiter(stream)
                while chunk := await _next(chunks):
                    size += len(chunk)
                    if size > self.max_bytes:
                        raise Refused(413, f"the {kind} is larger than {self.max_bytes // 10**6} MB: cut or shrink it")
                    await asyncio.to_thread(file.write, chunk)
            if size == 0:
                raise Refused(400, f"the {kind} is empty: send its bytes as the body of the request")
            return self._keep(folder, kind, name, title, path, size)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise Refused(507, f"the {kind} could not be kept ({error.strerror}): is the disk full?") from error
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def name_path(self, kind: Kind, given: str) -> dict[str, Any]:
        """Take a file that lies in an allowed folder, which stays where it is. Raises Refused."""
        path = self.resolve(given)
        name = new_id()
        folder = self.root / PLURAL[kind] / name
        folder.mkdir(parents=True)
        return self._keep(folder, kind, name, path.name, path, path.stat().st_size)

    def resolve(self, given: str) -> Path:
        """Return the file that a path means, which lies in an allowed folder after all links. Raises Refused."""
        if not self.allowed:
            raise Refused(403, "this server takes uploads alone: it was started without --allow")
        refused = Refused(403, f"{given!r} is no file in a folder that this server may read")
        for folder in self.allowed:
            try:
                path = (folder / given).resolve(strict=True)
            except (OSError, ValueError, RuntimeError):
                continue
            if path.is_relative_to(folder) and path.is_file():
                return path
        raise refused

    def delete(self, kind: Kind, name: str) -> None:
        """Delete an upload. A file that was named and not uploaded stays."""
        folder = self.folder(kind, name)
        self._known.pop(folder / "about.json", None)
        shutil.rmtree(folder, ignore_errors=True)

    def sweep(self) -> None:
        """Make the folders, and remove what an upload that was cut off by the server's end left."""
        for kind in PLURAL:
            place = self.root / PLURAL[kind]
            place.mkdir(parents=True, exist_ok=True)
            for folder in place.glob("*/"):
                if ID.fullmatch(folder.name) and not (folder / "about.json").is_file():
                    shutil.rmtree(folder, ignore_errors=True)

    def _keep(self, folder: Path, kind: Kind, name: str, title: str, path: Path, size: int) -> dict[str, Any]:
        about = {
            "id": name,
            "kind": kind,
            "title": "".join(filter(str.isprintable, PurePosixPath(title).name))[:LONGEST_TITLE],
            "path": str(path),
            "bytes": size,
            "created": time.time(),
            "state": "queued",
            "done": 0,
            "total": 0,
            "error": "",
            "facts": {},
            "faces": [],
        }
        write_json(folder / "about.json", about)
        return about


async def _next(chunks: AsyncIterator[bytes]) -> bytes:
    """Return the next chunk that is not empty; empty at the end. Raises Refused (408) where nothing comes."""
    try:
        while True:
            chunk = await asyncio.wait_for(anext(chunks), STALL_SECONDS)
            if chunk:
                return chunk
    except StopAsyncIteration:
        return b""
    except ClientDisconnect as error:
        raise Refused(400, "the client left before its file was whole: send it again") from error
    except TimeoutError as error:
        raise Refused(408, f"nothing came for {STALL_SECONDS} seconds: send it again") from error
