"""The tables that documents quote, to the letter."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

from drift import rises
from rendering import means, speech_at
from tables import figure, header, line, median


def clips() -> ModuleType:
    """Return benchmarks/clips.py, whose name tests/clips.py bears too."""
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "clips.py"
    spec = importlib.util.spec_from_file_location("clips_benchmark", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_cells() -> None:
    assert header(["a", "b"]) == "| a | b |\n|---|---|"
    assert line(["x", 0.125, None]) == "| x | 0.12 | – |"
    assert figure({"leak": 0.5, "sync": "no weights"}, "leak") == 0.5
    assert figure({"sync": "no weights"}, "sync") == "– (no weights)"
    assert figure({}, "sync") == "–"


def test_medians_are_of_the_rows_that_have_a_figure() -> None:
    rows = [{"leak": 0.1}, {"leak": "a still"}, {"leak": 0.3}, {}]
    assert median(rows, "leak") == pytest.approx(0.2)
    assert median(rows, "sync") is None


def test_a_clips_row_has_its_baselines_in_brackets() -> None:
    module = clips()
    row = {"film": "a.mp4", "speech of": "b.mp4", "finished": "yes", "frames": "equal", "outside mask": "equal"}
    row |= {"follows": 0.5, "leak": "a still", "shape": 1.0, "shape of a blurred mouth": 0.75, "sharpness": 0.4}
    assert module.row_line(row) == (
        "| a.mp4 | b.mp4 | yes | equal | equal | 0.50 | – (a still) | – | 0.40 | – | 1.00 (0.75) | – | – | – |"
    )
    failed = {"film": "c.mp4", "speech of": "b.mp4", "finished": "no: broken"}
    last = module.row_line(module.medians([row, failed]))
    assert last.startswith("| **median** |  | 1 of 2 | 1 of 2 | 1 of 2 | 0.50 | – |")
    assert "1.00 (0.75)" in last


def test_a_stretch_of_a_speech(tmp_path: Path) -> None:
    path = tmp_path / "ramp.wav"
    soundfile.write(path, np.linspace(0, 0.5, 32000), 16000, subtype="FLOAT")
    assert speech_at(str(path)).seconds == pytest.approx(2)
    part = speech_at(f"{path}@0.5-1.5")
    assert part.seconds == pytest.approx(1) and part.samples[0] == pytest.approx(0.125, abs=1e-3)


def test_a_mean_over_seeds_is_of_figures_only() -> None:
    assert means([{"leak": 0.1, "fidelity": 0.5}, {"leak": 0.3, "fidelity": "lips that do not move"}]) == {
        "leak": pytest.approx(0.2),
        "fidelity": "lips that do not move",
    }


def test_what_rises_is_told_from_what_trembles() -> None:
    rng = np.random.default_rng(0)
    rows = [{"red": 0.5 * i + rng.normal(0, 0.1), "green": rng.normal(0, 0.1), "shape": "no face"} for i in range(10)]
    found = rises(rows)
    assert set(found) == {"red", "green"}
    rise, noise = found["red"]
    assert rise == pytest.approx(4.5, abs=0.5) and noise < 0.5
    assert abs(found["green"][0]) < 2 * found["green"][1]
