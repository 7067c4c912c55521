"""The tables that documents quote, to the letter."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

from ablation import ROWS, Trial, read_lines, table, write_line
from rendering import means, speech_at
from tables import figure, header, line, median
from tiny import tiny_weights
from unisync.options import DubOptions


def clips() -> ModuleType:
    """Return benchmarks/clips.py, whose name tests/clips.py bears too."""
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "clips.py"
    spec = importlib.util.spec_from_file_location("clips_benchmark", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    options = DubOptions(weights=str(tiny_weights(tmp_path)))
    return Trial(Path("a.mp4"), Path("b.mp4"), "cross", "embedded, as shipped", options, 5.0)


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


def test_every_way_of_painting_has_its_own_key_but_those_that_are_the_same(trial: Trial) -> None:
    def key(row: str) -> str:
        return Trial(trial.clip, trial.speech, trial.protocol, row, trial.options, trial.seconds).key

    keys = {row: key(row) for row in ROWS}
    assert keys["without TALI"] == keys["τ_inj 0"]
    assert keys["embedded, as shipped"] == keys["τ_inj 0.8"]
    assert len(set(keys.values())) == len(ROWS) - 2


def test_other_weights_and_other_options_are_done_again(trial: Trial, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    weights = DubOptions(weights=str(tiny_weights(other, canvas=32)))
    steps = DubOptions(weights=trial.options.weights, steps=3)
    keys = [Trial(trial.clip, trial.speech, "cross", trial.row, o, 5.0).key for o in (trial.options, weights, steps)]
    assert len(set(keys)) == 3


def test_lines_are_found_again(trial: Trial, tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    assert read_lines(path) == {}
    write_line(path, trial, {"leak": 0.25, "sync": "no weights"})
    write_line(path, Trial(trial.clip, trial.clip, "self", trial.row, trial.options, 5.0), {"leak": 0.5})
    assert read_lines(path)[trial.key] == {"leak": 0.25, "sync": "no weights"}
    assert len(read_lines(path)) == 2


def test_the_table_has_a_row_per_way_and_medians_over_clips() -> None:
    found = [("without TALI", "cross", {"leak": value}) for value in (0.1, 0.2, 0.6)]
    found += [("without TALI", "self", {"follows": 0.7, "leak": 9.0})]
    head, _, row, empty = table(["without TALI", "without PAFS"], found).splitlines()
    titles, cells = ([part.strip() for part in text.split("|")[1:-1]] for text in (head, row))
    told = dict(zip(titles, cells, strict=True))
    assert told[""] == "without TALI" and told["cross: leak"] == "0.20" and told["self: follows"] == "0.70"
    assert set(empty.split("|")[2:-1]) == {" – "}


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
