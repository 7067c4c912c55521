"""The benchmark of large transformers, with a family so small that it runs at once."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

import wan
from unisync.nets.wan.families import FAMILIES, Size


def test_both_tables_are_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    family = FAMILIES["wan2.1-t2v-1.3b"]
    monkeypatch.setitem(FAMILIES, "small", replace(family, key="small", size=Size(256, 4, 512, 16), title="Small"))
    monkeypatch.setattr(wan, "MODELS", ("small",))
    monkeypatch.setattr(wan, "SMALL", 256)
    monkeypatch.setattr(wan, "REPEATS", 1)
    arguments = ["wan.py", "--canvas", "64", "--length", "9", "--attention", "flash"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--dry-run"])
    wan.main()
    first, second = (
        [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line.startswith("| S")]
        for part in capsys.readouterr().out.split("TFLOP/s")
    )
    assert [row[1] for row in first] == ["bf16", "fp8", "bf16, 2 of 4 blocks swapped"]
    assert [row[1].partition(",")[2] for row in second] == ["", "", " 1 of 2 blocks swapped"] and second[1][1] == "fp8"
    assert len({row[2] for row in first}) == 1 and first[0][2] == "48"
    assert all(row[2] == "2" and float(row[4]) > 0 and row[6].endswith("%") for row in second)
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    wan.main()
    assert "no GPU here: nothing measured" in capsys.readouterr().out
