"""A film of a face, a speech that is heard as one, and weights, all small."""

from __future__ import annotations

from pathlib import Path

import pytest

from faces import frames, lay
from tiny import tiny_weights
from unisync.demo import demo_speech
from unisync.media import EncodeOptions, drawn, write_film
from unisync.options import DubOptions

NUM = 20


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.mkv"
    pictures = [lay([(110 + i, 120, 0.9)], (240, 240)) for i in range(NUM)]
    write_film(frames(pictures), path, drawn("x", 240, 240, 25, NUM), None, EncodeOptions("h264", 16, "ultrafast"))
    return path


@pytest.fixture(scope="session")
def speech() -> Path:
    return demo_speech()


@pytest.fixture(scope="session")
def options(tmp_path_factory: pytest.TempPathFactory) -> DubOptions:
    weights = tiny_weights(tmp_path_factory.mktemp("weights"), length=3)
    return DubOptions(weights=str(weights), steps=1, threads=1, preset="ultrafast")
