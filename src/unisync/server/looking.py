"""A worker's program: looks at one upload, and writes what it found or why it is refused.

`python -m unisync.server.looking FOLDER MAX_SECONDS MAX_PIXELS BYTES SECONDS`. It writes look.json, and for a film
faces.png and the plan that its jobs go by; progress.json says how far it is.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unisync import api
from unisync.errors import MediaError, UnisyncError
from unisync.server.storage import write_json

if TYPE_CHECKING:
    from unisync.types import Plan, Progress


def look(folder: Path, about: dict[str, Any], max_seconds: float, max_pixels: int) -> dict[str, Any]:
    """Return facts and faces of an upload. Raises UnisyncError for what is too long, too large or broken."""
    path, kind = Path(about["path"]), about["kind"]
    facts = api.measure(path)
    if facts["seconds"] > max_seconds:
        raise MediaError(f"{path} takes {facts['seconds']:.0f} s, and this server {max_seconds:g} at most: cut it")
    if kind == "speech":
        return {"facts": {"seconds": facts["seconds"]}, "faces": []}
    if "width" not in facts:
        raise MediaError(f"{path} has no picture, only sound: send it as a speech")
    if facts["width"] * facts["height"] > max_pixels:
        size = f"{facts['width']:.0f}x{facts['height']:.0f}"
        raise MediaError(f"{path} is {size}, and this server takes {max_pixels} pixels at most: make it smaller")

    def tell(progress: Progress) -> None:
        write_json(folder / "progress.json", {"done": progress.done, "total": progress.total})

    plan = api.scan(path, on_progress=tell)
    api.save_plan(plan, folder / "film.plan")
    if plan.tracks:
        api.contact_sheet(plan, folder / "faces.png")
    return {"facts": facts | {"shots": len(plan.shots)}, "faces": list(faces(plan))}


def faces(plan: Plan) -> list[dict[str, Any]]:
    """Return the tracks as they lie on the contact sheet, row by row."""
    found = dict(zip((track.name for track in plan.tracks), api.rows(plan), strict=True))
    order = sorted(plan.tracks, key=lambda track: (track.start + track.stop) // 2)
    return [
        {
            "name": track.name,
            "from": float(plan.seconds[track.start]),
            "to": float(plan.seconds[track.stop - 1]),
            "size": found[track.name]["size"],
            "speaks": found[track.name]["speaks"],
        }
        for track in order
    ]


def main(folder: Path, max_seconds: float, max_pixels: int, num_bytes: int, cpu_seconds: int) -> None:
    """Look, and write what came of it. num_bytes, cpu_seconds: what this process may take, whatever the file is."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    api.jobs.limit_memory(num_bytes)
    about = json.loads((folder / "about.json").read_text("utf-8"))
    try:
        found = look(folder, about, max_seconds, max_pixels) | {"error": ""}
    except UnisyncError as error:
        found = {"error": str(error)}
    except MemoryError:
        found = {"error": f"{about['path']} wants more memory than a worker may take: make it smaller"}
    write_json(folder / "look.json", found)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), *map(int, sys.argv[3:]))
