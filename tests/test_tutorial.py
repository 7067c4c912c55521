"""What the tutorial and the how-tos tell people to type: the tutorial's is run, the others' is read by the command line."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from faces import frames as as_frames
from faces import lay
from tiny import tiny_weights
from unisync import api
from unisync.backbones import mini
from unisync.cli import app
from unisync.media import EncodeOptions, drawn, probe, write_film
from unisync.types import Report

DOCS = Path(__file__).parent.parent / "docs"
HOWTOS = sorted((DOCS / "howto").glob("*.md"))
NUM = 6


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return a page's blocks of code: language and text."""
    return re.findall(r"^```(\w+)\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """Return the lines of a shell block that call unisync, as words."""
    return [shlex.split(line, comments=True)[1:] for line in text.splitlines() if line.startswith("unisync ")]


def typed(words: list[str]) -> str:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, (words, done.output, done.stderr)
    return done.stdout


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as the pages assume it, and tiny weights."""
    weights = tiny_weights(tmp_path)
    monkeypatch.setattr(mini, "embedded_weights", lambda: weights)
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    pictures = [lay([(130 + i, 170, 1.2), (350, 180 - i, 1.0)]) for i in range(NUM)]
    film = drawn("x", 480, 360, 25, NUM)
    write_film(as_frames(pictures), "film.mp4", film, None, EncodeOptions("h264", 16, "ultrafast"))
    soundfile.write("speech.wav", np.random.default_rng(0).normal(0, 0.1, 8000), 16000)
    np.save("frames.npy", np.stack(pictures))
    return folder


def test_the_tutorial_can_be_followed(place: Path) -> None:
    said = ""
    for language, text in blocks(DOCS / "tutorial.md"):
        if language == "python":
            exec(compile(text, "tutorial.md", "exec"), {})
            continue
        for line in text.splitlines():
            if line.startswith("printf "):
                written, name = shlex.split(line)[1], shlex.split(line)[3]
                Path(name).write_text(written.replace("\\n", "\n"))
        for words in commands(text):
            if words != ["doctor"]:  # it tells of this machine, whatever that lacks
                said += typed(words)
    assert "face2" in said and said.count("s per second of film") == 7
    made = {path.name for path in place.iterdir()}
    assert made >= {"dubbed.mp4", "longer.mp4", "film.plan", "faces.png", "second.mp4", "exact.mkv", "python.mp4"}
    assert len(probe("longer.mp4")) == 13 and probe("exact.mkv").codec == "ffv1"


@pytest.mark.parametrize("page", HOWTOS, ids=lambda path: path.stem)
def test_how_tos_say_what_the_command_line_takes(page: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Any] = []

    def dub(film: Path, speech: Path, out: Path, **given: Any) -> Report:
        taken.append(given["options"])
        return Report(str(film), str(speech), str(out), 1, 0.04, 1)

    monkeypatch.setattr(api, "dub", dub)
    called = [words for language, text in blocks(page) if language == "sh" for words in commands(text)]
    for words in called:
        typed(words)
    assert len(taken) == sum(words[0] == "dub" for words in called)
    if page.stem not in ("batch", "comfyui", "python"):
        assert taken


def test_what_is_said_of_python_runs(place: Path) -> None:
    for language, text in blocks(DOCS / "howto" / "python.md"):
        assert language == "python"
        exec(compile(text, "python.md", "exec"), {})


def test_containers_and_codecs_are_as_the_table_says() -> None:
    from unisync.media import CODECS, CONTAINERS

    text = (DOCS / "howto" / "formats.md").read_text("utf-8")
    for suffix, container in CONTAINERS.items():
        line = next(line for line in text.splitlines() if line.startswith("| .") and suffix in line.split("|")[1])
        told = set(re.findall(r"[a-z]+\d*[a-z0-9]*", line.split("|")[2].replace("(by itself)", "")))
        assert told == {name for name, codec in CODECS.items() if container in codec.containers}, suffix
