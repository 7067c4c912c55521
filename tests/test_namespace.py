"""`import unisync`: the names that others may build on, there at once, and what stopping leaves."""

from __future__ import annotations

import ast
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import unisync
from unisync.demo import demo_speech, make_demo_film

SOURCE = Path(unisync.__file__)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo_film(tmp_path_factory.mktemp("film") / "film.mp4", 0.6)


def test_every_public_name_is_there_and_says_what_it_is() -> None:
    for name in unisync.__all__:
        found = getattr(unisync, name)
        assert found is getattr(unisync, name), name
        if callable(found) and getattr(found, "__module__", "").startswith("unisync"):
            assert found.__doc__, name
    assert set(unisync.__all__) <= set(dir(unisync))
    with pytest.raises(AttributeError, match="'dubb'"):
        _ = unisync.dubb  # type: ignore[attr-defined]


def test_type_checkers_see_the_same_names() -> None:
    imported = set()
    for node in ast.parse(SOURCE.read_text("utf-8")).body:
        if isinstance(node, ast.If):
            for line in node.body:
                assert isinstance(line, ast.ImportFrom)
                imported |= {alias.name for alias in line.names}
    assert imported == set(unisync.__all__)


def test_a_verb_stays_a_verb_once_everything_is_imported() -> None:
    """A module of a verb's name would take its place as soon as it was imported."""
    verbs = {name for name in unisync.__all__ if name.islower()}
    assert verbs >= {"dub", "evaluate", "prepare", "scan", "train"}
    assert not verbs & {path.stem for path in SOURCE.parent.iterdir()}


def test_importing_is_quick_and_light() -> None:
    code = (
        "import sys; before = set(sys.modules); import unisync; print(*(set(sys.modules) - before))\n"
        "unisync.DubOptions(); unisync.Cancelled; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert {name.split(".")[0] for name in first.split()} <= {"unisync", *sys.stdlib_module_names}
    assert not {"numpy", "torch", "av", "cv2"} & set(second.split())


@pytest.mark.parametrize("stage", ["scan", "dub"])
def test_cancelled_stops_and_leaves_nothing(film: Path, tmp_path: Path, stage: str) -> None:
    told: list[unisync.Progress] = []

    def stop(progress: unisync.Progress) -> None:
        told.append(progress)
        if progress.stage == stage:
            raise unisync.Cancelled(f"enough at frame {progress.done}")

    options = unisync.DubOptions(method="echo", report=str(tmp_path / "report.json"))
    with pytest.raises(unisync.Cancelled, match="enough"):
        unisync.dub(film, demo_speech(), tmp_path / "out.mp4", options=options, on_progress=stop)
    assert told[-1].stage == stage and told[-1].done < 15
    assert list(tmp_path.iterdir()) == []
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_cancelled_stops_a_scan(film: Path) -> None:
    def stop(progress: unisync.Progress) -> None:
        raise unisync.Cancelled

    with pytest.raises(unisync.Cancelled):
        unisync.scan(film, on_progress=stop)
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_an_existing_film_outlives_a_stopped_one(film: Path, tmp_path: Path) -> None:
    def stop(progress: unisync.Progress) -> None:
        if progress.stage == "dub":
            raise unisync.Cancelled

    out = tmp_path / "out.mp4"
    out.write_bytes(b"the film of yesterday")
    with pytest.raises(unisync.Cancelled):
        unisync.dub(film, demo_speech(), out, options=unisync.DubOptions(method="echo"), on_progress=stop)
    assert out.read_bytes() == b"the film of yesterday"
    assert list(tmp_path.iterdir()) == [out]
