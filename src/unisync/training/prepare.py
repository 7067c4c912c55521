"""A folder of films to a dataset: scanned and cut as for dubbing, measured, filtered, split by face, written as shards."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from unisync.errors import MediaError, OptionError, UnisyncError
from unisync.face.detect import FaceModels
from unisync.metrics.expert import expert_weights
from unisync.options import PrepareOptions
from unisync.training.assemble import Prepared, assemble
from unisync.training.films import Job, cut_film
from unisync.training.summary import write_summary
from unisync.types import OnProgress, Progress
from unisync.whole import write_whole

SUFFIXES = (
    *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg"),
    *(".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)
FREE = ("workers",)
"""Options that may be others when a run goes on, since they change nothing in the dataset."""


def prepare(folder: Path, out: Path, options: PrepareOptions, on_progress: OnProgress | None = None) -> Prepared:
    """Write the dataset OUT from every film in a folder and the folders in it, or go on where that was stopped.

    A film that cannot be read is named in what is returned, and the others go on. Films that came into the folder since
    are added. Raises UnisyncError.
    """
    FaceModels()  # says what is missing, once, before any work
    films = find_films(folder)
    speakers = read_speakers(Path(options.speakers)) if options.speakers else {}
    records = out / "films"
    try:
        records.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"{out}: cannot be made ({error.strerror}); choose another folder") from error
    _settle(out, options)
    for left in records.glob(".*.part"):
        left.unlink()
    jobs = [Job(film, film.relative_to(folder).as_posix(), records, options) for film in films]
    todo = [job for job in jobs if not job.is_done()]
    done = len(jobs) - len(todo)
    for _ in _work(todo, options.workers or os.cpu_count() or 1):
        done += 1
        if on_progress:
            on_progress(Progress("films", done, len(jobs)))
    prepared, judged = assemble(out, options, speakers)
    write_summary(out, prepared, judged, options)
    return prepared


def find_films(folder: Path) -> list[Path]:
    """Return the films in a folder and the folders in it, by their suffixes. Raises MediaError if there are none."""
    if not folder.is_dir():
        raise MediaError(f"{folder} is no folder: name the one that holds the films.")
    films = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not films:
        raise MediaError(f"{folder} holds no film: looked for {', '.join(SUFFIXES)}.")
    return films


def read_speakers(path: Path) -> dict[str, str]:
    """Read JSON lines with 'file' (a film's name or its path in the folder) and 'speaker'. Raises OptionError."""
    try:
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
        return {str(row["file"]): str(row["speaker"]) for row in rows}
    except OSError as error:
        raise OptionError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise OptionError(f"{path}: is not JSON lines with 'file' and 'speaker' ({error})") from error


def _settle(out: Path, options: PrepareOptions) -> None:
    """Write down the options, or refuse to mix samples made with others. Raises OptionError."""
    path = out / "options.json"
    now = {name: value for name, value in options.to_dict().items() if name not in FREE}
    now["expert"] = _fingerprint(expert_weights())
    if not path.exists():
        write_whole(path, json.dumps(now, indent=1) + "\n")
        return
    was = json.loads(path.read_text("utf-8"))
    other = [f"{name}={was.get(name)}" for name, value in now.items() if was.get(name) != value]
    if other:
        raise OptionError(f"{out} was begun with {', '.join(other)}; give the same, or choose another folder")


def _fingerprint(weights: Path) -> str:
    """Return which weights measure the sync, "none" where they are missing: half a dataset without them is none."""
    return hashlib.sha256(weights.read_bytes()).hexdigest()[:16] if weights.exists() else "none"


def _work(todo: list[Job], workers: int) -> Iterator[str]:
    """Cut the films and yield each one's name when it is done, whichever is first."""
    if workers == 1:
        yield from map(cut_film, todo)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, max(1, len(todo))), context, _one_thread) as pool:
        doing = {pool.submit(cut_film, job): job for job in todo}
        try:
            for future in as_completed(doing):
                yield future.result()
        except BrokenProcessPool as error:
            names = ", ".join(job.name for future, job in doing.items() if not job.is_done())[:300]
            raise UnisyncError(
                f"a process was killed, maybe for want of memory, at one of {names}; run again to go on, with fewer workers"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _one_thread() -> None:
    """Processes share the cores among themselves: threads of OpenCV and torch would only wait for each other."""
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
