"""A film before two experts: the shipped one and one that was never trained."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from faces import frames, lay
from opinions import main
from unisync.media import EncodeOptions, Speech, drawn, write_film
from unisync.metrics.expert import KIND
from unisync.nets.expert import Expert, ExpertConfig
from unisync.nets.weights import save_weights

NUM = 60


def test_each_expert_has_a_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    speech = tmp_path / "speech.flac"
    soundfile.write(speech, np.random.default_rng(0).normal(0, 0.1, 16000 * NUM // 25), 16000)
    (tmp_path / "made").mkdir()
    film = drawn("a", 480, 360, 25, NUM)
    write_film(
        frames([lay([(180 + i, 170, 1.4)]) for i in range(NUM)]),
        tmp_path / "made" / "a.mkv",
        film,
        Speech(speech),
        EncodeOptions("h264"),
    )
    torch.manual_seed(0)
    other = tmp_path / "other.safetensors"
    save_weights(other, {"expert": Expert(ExpertConfig())}, {"kind": KIND, "config": asdict(ExpertConfig())})
    monkeypatch.setattr(sys, "argv", ["opinions.py", *map(str, (tmp_path / "made", tmp_path / "made", other))])
    main()
    head, _, row, last = capsys.readouterr().out.splitlines()
    assert head == f"| film | shipped | {other} |" and row.startswith("| a.mkv | ")
    cells = [cell.strip() for cell in row.strip("|").split("|")][1:]
    assert last == f"| **median** | {cells[0]} | {cells[1]} |"
    assert cells[0] != cells[1] and all(0 <= float(cell) < 1 for cell in cells)
