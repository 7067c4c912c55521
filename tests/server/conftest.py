"""One server for all tests that do it no harm, with a film and a speech."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served import Server

from faces import frames, lay
from unisync.demo import demo_speech
from unisync.media import EncodeOptions, drawn, write_film

pytest.importorskip("fastapi", reason="needs the extra 'serve'")
NUM = 15


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("served") / "a film.mp4"
    pictures = [lay([(180 + i, 170, 1.2)], (360, 320)) for i in range(NUM)]
    encode = EncodeOptions("h264", 20, "ultrafast")
    write_film(frames(pictures), path, drawn("x", 360, 320, 25, NUM), None, encode)
    return path


@pytest.fixture(scope="session")
def speech() -> Path:
    return demo_speech()


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all tests that do it no harm."""
    folder = tmp_path_factory.mktemp("server")
    allowed = folder / "allowed"
    allowed.mkdir()
    made = Server(
        folder / "root", ("--allow", str(allowed), "--max-upload", "2", "--max-seconds", "20", "--max-pixels", "250000")
    )
    made.begin()
    yield made
    made.end()


@pytest.fixture(scope="package")
def ready(server: Server, film: Path, speech: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A film and a speech that the server has looked at."""
    return server.send("films", "a%20film.mp4", film.read_bytes()), server.send(
        "speeches", "a.flac", speech.read_bytes()
    )
