"""One cell of a suite: a method makes a film, in a process of its own so that its memory can be told, and it is judged."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import tomli_w

import unisync
from unisync.backbones.mini import files_of
from unisync.bench.footage import look
from unisync.bench.judge import Judge, watched
from unisync.bench.material import Material, digest
from unisync.bench.suite import FILMS, Clip, Entrant, Protocol
from unisync.errors import UnisyncError
from unisync.media import EncodeOptions, Speech, extend, probe, read_frames, read_sound, write_film

TAIL = 300
"""Letters of a program's last words that are kept."""
LOOK_SECONDS = 0.2
"""How often a program's memory is looked at."""


@dataclass(frozen=True)
class Task:
    """One cell. folder: the evaluation's own.  material: or the reason why there is none.  threads: for its processes."""

    protocol: Protocol
    clip: Clip
    method: Entrant
    material: Material | str
    metrics: tuple[str, ...]
    seed: int
    folder: Path
    threads: int
    alone: bool
    """Whether the suite has one protocol, so that made films need no folder of that name."""

    @property
    def place(self) -> str:
        """Where its film goes, in the evaluation's folder."""
        return f"films/{self.method.name}/{self.protocol}/{self.clip.name}.mp4"

    @property
    def record(self) -> Path:
        """Where its result is kept."""
        return self.folder / "cells" / self.protocol / self.clip.name / f"{self.method.name}.json"

    def key(self) -> str:
        """Return what tells its film from those of other sources, speeches, options, weights and versions."""
        files: list[str | None] = []
        if isinstance(self.material, Material):
            places = (self.material.film, self.material.speech, self.material.said, self.clip.truth, self.given())
            files = [digest(path) if path else None for path in places]
        weights = None
        if self.method.kind == "unisync":
            weights = [digest(path) for path in files_of(self.method.dub_options())]
        method = asdict(self.method) | {"folder": None, "name": None}
        facts = [unisync.__version__, self.protocol, files, method, weights, self.seed]
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def given(self) -> Path | None:
        """Return the film that was made elsewhere, None if there is none."""
        if self.method.folder is None:
            return None
        folders = (self.method.folder / self.protocol, *((self.method.folder,) if self.alone else ()))
        places = (folder / f"{self.clip.name}{suffix}" for folder in folders for suffix in FILMS)
        return next((place for place in places if place.is_file()), None)


def carry_out(task: Task) -> dict[str, Any]:
    """Make and judge one cell and keep what came of it; what is there already of the same key is not made anew.

    A cell that failed is tried again. Returned: the key, the metrics, the result, and what differs from run to run (times).
    """
    key, metrics, times = task.key(), list(task.metrics), None
    with contextlib.suppress(OSError, ValueError):
        known: dict[str, Any] = json.loads(task.record.read_text("utf-8"))
        if known["key"] == key and known["result"]["status"] != "failed":
            if known["metrics"] == metrics:
                return known
            times = known["times"] if (task.folder / task.place).is_file() else None
    result: dict[str, Any] = {
        "protocol": task.protocol,
        "clip": task.clip.name,
        "method": task.method.name,
        "tags": list(task.clip.tags),
        "speech": "",
        "status": "skipped",
        "problem": "",
        "out": "",
        "figures": {},
        "facts": {},
    }
    if isinstance(task.material, str):
        result["problem"] = task.material
    else:
        result["speech"] = task.material.said.name if task.material.said else "silence"
        try:
            times = make(task, task.material) if times is None else times
            result |= judged(task, task.material)
        except UnisyncError as error:
            result |= {"status": "failed", "problem": str(error)}
    known = {"key": key, "metrics": metrics, "result": result, "times": times or {}}
    write(task.record, json.dumps(known, ensure_ascii=False, indent=1))
    return known


class MethodError(UnisyncError):
    """A method gave no film."""


def make(task: Task, material: Material) -> dict[str, float]:
    """Make the cell's film; return seconds of work per second of film and the peak memory in MB, as far as known."""
    out = task.folder / task.place
    out.parent.mkdir(parents=True, exist_ok=True)
    out.unlink(missing_ok=True)
    if task.method.kind == "folder":
        given = task.given()
        if given is None:
            raise MethodError(f"{task.method.folder}: holds no film {task.protocol}/{task.clip.name}.mp4; put it there")
        shutil.copyfile(given, out)
        return {}
    if task.method.kind == "copy":
        film, sound = probe(material.film), read_sound(material.speech)
        if film.still:
            film = extend(film, sound.seconds, "hold")
        with tempfile.TemporaryDirectory() as place:
            late = Path(place) / "late.wav"
            soundfile.write(late, np.roll(sound.samples, round(task.method.shift * sound.rate)), sound.rate)
            write_film(read_frames(film), out, film, Speech(late), EncodeOptions("h264"))
        return {}
    seconds, peak = run(words_of(task, material, out), task.threads)
    if not out.is_file():
        raise MethodError(f"method {task.method.name!r} ended without an error, but wrote no {out}")
    times = {"seconds_per_second": seconds / float(probe(out).duration)}
    return times if peak is None else times | {"peak_memory_mb": peak}


def words_of(task: Task, material: Material, out: Path) -> list[str]:
    """Return the command that makes the film."""
    if task.method.kind == "command":
        return task.method.words({"film": str(material.film), "speech": str(material.speech), "out": str(out)})
    options = out.parent.parent / "options.toml"
    write(options, tomli_w.dumps({"seed": task.seed, **task.method.options}))
    verb = [sys.executable, "-m", "unisync", "dub"]
    return [*verb, str(material.film), str(material.speech), "-o", str(out), "--config", str(options)]


def run(words: Sequence[str], threads: int) -> tuple[float, float | None]:
    """Run a program; return its seconds and its peak memory in MB, with that of the programs it starts, where /proc tells.

    Raises MethodError with its last words.
    """
    env = {"OMP_NUM_THREADS": str(threads), **os.environ}  # who sets it knows why
    begun, peak = time.monotonic(), 0
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=env, process_group=0
            )
        except OSError as error:
            raise MethodError(f"{words[0]}: cannot be started ({error.strerror})") from error
        try:
            while process.poll() is None:
                peak = max(peak, resident(process.pid))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(LOOK_SECONDS)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        said.seek(0)
        tail = " ".join(said.read().decode("utf-8", "replace").split())[-TAIL:]
    if process.returncode:
        raise MethodError(f"{Path(words[0]).name} ended with {process.returncode}: {tail or 'it said nothing'}")
    return time.monotonic() - begun, peak / 1024 or None


def resident(group: int) -> int:
    """Return the memory in kB that the processes of a group take, at their peaks; 0 where there is no /proc.

    Not what wait4 tells: a program is born with the peak of the one that starts it.
    """
    total = 0
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # gone meanwhile
            if int((place / "stat").read_text().rpartition(")")[2].split()[2]) == group:
                status = (place / "status").read_text()
                total += int(status.partition("VmHWM:")[2].split()[0])
    return total


def judged(task: Task, material: Material) -> dict[str, Any]:
    """Return what is to be said of the cell's film, and write its curves."""
    given = read_sound(material.speech)
    source = watched(material.film, given.seconds)
    made = look(task.folder / task.place)
    # what is heard in the film that was made counts: a method may well have moved it
    sound = read_sound(made.film.path) if made.film.has_sound else given
    spoken = watched(material.said) if material.said and material.seen and task.protocol == "cross" else None
    if task.protocol == "self":
        spoken = source
    true = task.clip.truth if task.protocol == "cross" else None
    truth = source if task.protocol == "self" else watched(true) if true else None
    figures, curves = Judge(source, sound, task.protocol, truth, spoken)(made, task.metrics)
    write(task.folder / "curves" / Path(task.place).relative_to("films").with_suffix(".json"), json.dumps(curves))
    late = abs(float(made.film.duration - source.film.duration))
    return {
        "status": "finished",
        "out": task.place,
        "figures": {name: round(value, 6) if isinstance(value, float) else value for name, value in figures.items()},
        "facts": {
            "frames": len(made.film),
            "frames_exact": len(made.film) == len(source.film),
            "length_exact": late <= 1 / float(source.film.rate),
            "faces": len(made.tracks),
            "own_sound": made.film.has_sound,
        },
    }


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    private = path.with_name(f".{path.name}.{os.getpid()}")
    private.write_text(text, "utf-8")
    private.replace(path)
