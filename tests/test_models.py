"""Published weights: where they are looked for, whether they are whole, and what the command line says of them."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from layouts import SYNCNET, random_state
from unisync import models
from unisync.cli import app
from unisync.errors import WeightsError
from unisync.metrics.learned import Learned
from unisync.models import MODELS, find, models_folder, stand
from unisync.nets.published import I3D_SCRIPT, NETWORKS
from unisync.registry import load, names

SYNC = MODELS[0]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNISYNC_MODELS", str(tmp_path))
    return tmp_path


def unisync(*args: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["models", *args])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def test_every_metric_that_is_learned_names_a_known_file_that_a_network_is_for() -> None:
    wanted = {m.weights for m in (load("metric", name) for name in names("metric")) if issubclass(m, Learned)}
    assert wanted == {*NETWORKS, I3D_SCRIPT} <= {model.name for model in MODELS}
    for model in MODELS:
        assert model.sha256 is None or len(bytes.fromhex(model.sha256)) == 32
    assert MODELS[1].sha256 is not None and MODELS[1].sha256.startswith("6726825d")  # as its own name says


def test_the_folder_is_the_chosen_one_or_the_environments_or_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNISYNC_MODELS", "/weights")
    assert models_folder(Path("/mine")) == Path("/mine")
    assert models_folder() == Path("/weights")
    monkeypatch.setenv("UNISYNC_MODELS", "")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert models_folder() == Path("/data/unisync/models")


def test_a_missing_file_is_no_error_and_makes_no_folder(folder: Path) -> None:
    assert find(SYNC.name) is None
    assert find(SYNC.name, folder / "nowhere") is None
    assert not list(folder.iterdir())


def test_a_whole_file_is_found_and_another_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / SYNC.name
    path.write_bytes(b"something else")
    with pytest.raises(WeightsError, match=r"syncnet_v2\.model: its sha256 is not the published one's.*get it again"):
        find(SYNC.name)
    known = replace(SYNC, sha256=hashlib.sha256(b"something else").hexdigest())
    monkeypatch.setattr(models, "MODELS", (known,))
    assert find(SYNC.name) == path
    assert stand(known, folder).state == "whole"


def test_a_file_whose_sum_is_not_known_is_taken_with_a_warning(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "w600k_r50.pth").write_bytes(b"x")
    (folder / "syncnet_v2.safetensors").write_bytes(b"x")
    with caplog.at_level(logging.WARNING):
        assert find("w600k_r50.pth") == find("w600k_r50.pth") == folder / "w600k_r50.pth"
        assert find("syncnet_v2.model") == folder / "syncnet_v2.safetensors"
    assert len(caplog.records) == 2 and "its sha256 is not known" in caplog.text


def test_a_file_that_cannot_be_read_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / SYNC.name).write_bytes(b"x")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(WeightsError, match=r"syncnet_v2\.model: cannot be read \(Permission denied\)"):
        find(SYNC.name)


def test_list_and_where(folder: Path) -> None:
    save_file({"x": torch.zeros(1)}, folder / "w600k_r50.safetensors")
    assert unisync("where") == (0, f"{folder}\n", "")
    code, said, _ = unisync("list")
    lines = said.splitlines()
    assert code == 0 and len(lines) == len(MODELS) + 1
    assert lines[1].startswith("syncnet_v2.model") and " missing " in lines[1] and "LSE-C" in lines[1]
    arcface = next(line for line in lines if line.startswith("w600k_r50.pth"))
    assert "sum not known" in arcface and "non-commercial" in arcface
    elsewhere = unisync("list", "--folder", str(folder / "empty"))[1]
    assert elsewhere.count(" missing ") == len(MODELS)


def test_check_reads_what_is_there(folder: Path) -> None:
    assert unisync("check") == (0, "0 files, 0 damaged\n", "")
    save_file(random_state(SYNCNET), folder / "syncnet_v2.safetensors")
    code, said, _ = unisync("check")
    assert code == 0 and said.endswith("syncnet_v2.safetensors: sum not known, its tensors fit\n1 files, 0 damaged\n")
    save_file({"x": torch.zeros(1)}, folder / "w600k_r50.safetensors")
    (folder / "rgb_imagenet.pt").write_bytes(b"half a file")
    (folder / "allmodel").write_text("no network of ours")
    code, said, _ = unisync("check")
    assert code == 2 and said.endswith("allmodel: sum not known\n4 files, 2 damaged\n")
    assert "w600k_r50.safetensors: the file lacks 'conv1.weight'" in said
    assert "rgb_imagenet.pt: its sha256 is not the published one's" in said
