"""A suite carried out: cells side by side in processes of their own, results in the suite's order."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import platform
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import soundfile
import torch

import unisync
from unisync.backbones.mini import LORAS, embedded_weights
from unisync.bench.judge import POOLED, all_metrics, pooled
from unisync.bench.material import Material, gather, taken
from unisync.bench.suite import ALL_CLIPS, Suite, write_suite
from unisync.bench.work import Task, carry_out, write
from unisync.errors import OptionError
from unisync.media import EncodeOptions, Speech, probe, read_frames, write_film
from unisync.metrics.expert import expert_weights
from unisync.models import MODELS, find
from unisync.types import OnProgress, Progress

RESULTS, TIMES, ABOUT = "results.jsonl", "times.jsonl", "about.json"


def evaluate(suite: Suite, out: Path, jobs: int = 1, on_progress: OnProgress | None = None) -> Path:
    """Carry a suite out in a folder, or go on where that was stopped; return the result file.

    results.jsonl has a line per cell and is the same byte for byte when run again; times.jsonl has what is not.
    Raises OptionError for what cannot work, UnisyncError for films that cannot be read; cells that fail are results.
    """
    metrics = suite.metrics or tuple(all_metrics())
    unknown = next((name for name in metrics if name not in all_metrics()), None)
    if unknown is not None:
        raise OptionError(f"there is no metric {unknown!r} (known: {', '.join(all_metrics())})")
    try:
        (out / "material").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"{out}: cannot be made ({error.strerror}); choose another folder") from error
    before = (out / "suite.toml").read_bytes() if (out / "suite.toml").exists() else None
    write_suite(suite, out / "suite.toml")
    threads = max(1, (os.cpu_count() or 1) // jobs)
    tasks = list(_tasks(suite, out, metrics, threads))
    _show_sources(suite, out, before == (out / "suite.toml").read_bytes())
    done = []
    for known in _carried(tasks, jobs):
        done.append(known)
        if on_progress:
            on_progress(Progress("cells", len(done), len(tasks)))
    results = [known["result"] for known in done] + list(_of_all(suite, tasks, done, metrics))
    write(out / RESULTS, _lines(results))
    names = ("protocol", "clip", "method")
    write(out / TIMES, _lines([{n: k["result"][n] for n in names} | k["times"] for k in done if k["times"]]))
    write(out / ABOUT, json.dumps(_about(suite), indent=1))
    return out / RESULTS


def _show_sources(suite: Suite, out: Path, same: bool) -> None:
    """Write the sources once more, for browsers. same: what is there is of the same suite."""
    for clip in suite.clips:
        place = out / "films" / "source" / f"{clip.name}.mp4"
        if not (same and place.exists()):
            place.parent.mkdir(parents=True, exist_ok=True)
            film = taken(suite, probe(clip.film))
            write_film(
                read_frames(film), place, film, Speech(clip.film) if film.has_sound else None, EncodeOptions("h264")
            )


def _tasks(suite: Suite, out: Path, metrics: tuple[str, ...], threads: int) -> Iterator[Task]:
    known: dict[tuple[str, str], Material | str] = {}
    for protocol, clip, method in suite.cells():
        at = (protocol, clip.name)
        if at not in known:
            known[at] = gather(suite, clip, protocol, out / "material")
        alone = len(suite.protocols) == 1
        yield Task(protocol, clip, method, known[at], metrics, suite.seed, out, threads, alone)


def _carried(tasks: Sequence[Task], jobs: int) -> Iterator[dict[str, Any]]:
    """Yield what came of each task, in order."""
    if jobs == 1:
        yield from map(carry_out, tasks)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=_share, initargs=(tasks[0].threads,)) as pool:
        try:
            yield from pool.map(carry_out, tasks)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _share(threads: int) -> None:
    torch.set_num_threads(threads)


def _of_all(
    suite: Suite, tasks: Sequence[Task], done: Sequence[dict[str, Any]], metrics: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield results of all clips of a method together, for the distances that need many."""
    wanted = [name for name in POOLED if name in metrics]
    for protocol in suite.protocols if wanted else ():
        for method in suite.methods:
            own = [
                task
                for task, known in zip(tasks, done, strict=True)
                if (task.protocol, task.method) == (protocol, method) and known["result"]["status"] == "finished"
            ]
            films = [
                (task.folder / task.place, task.material.film, soundfile.info(task.material.speech).duration)
                for task in own
                if isinstance(task.material, Material)
            ]
            figures = pooled(wanted, films)
            yield {
                "protocol": protocol,
                "clip": ALL_CLIPS,
                "method": method.name,
                "figures": figures,
                "clips": len(own),
            }


def _about(suite: Suite) -> dict[str, Any]:
    """Return what figures depend on beside the suite."""
    published = {model.name: find(model.name) for model in MODELS}
    shipped = embedded_weights(), *map(embedded_weights().with_name, LORAS.values()), expert_weights()
    ours = {path.name: path if path.is_file() else None for path in shipped}
    return {
        "suite": suite.name,
        "seed": suite.seed,
        "version": unisync.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "weights": {name: _sum(path) for name, path in sorted((ours | published).items())},
    }


def _sum(path: Path | None) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path else "missing"


def _lines(rows: Sequence[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
