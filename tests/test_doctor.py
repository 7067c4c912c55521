"""The doctor sees what is missing or damaged, and says what mends it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from unisync import doctor
from unisync.face import detect


def test_weights_are_compared_with_their_sums(tmp_path: Path) -> None:
    (good,) = doctor._weights(tmp_path)
    assert (good.ok, good.needed) == (False, True)
    whole, broken = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    whole.write_bytes(b"whole")
    broken.write_bytes(b"broken")
    sums = [(hashlib.sha256(b"whole").hexdigest(), name) for name in ("a", "b", "c")]
    (tmp_path / "SHA256SUMS").write_text("".join(f"{number}  {name}.safetensors\n" for number, name in sums))
    found = {check.name: check for check in doctor._weights(tmp_path)}
    assert {name: check.ok for name, check in found.items()} == {
        "weights a.safetensors": True,
        "weights b.safetensors": False,
        "weights c.safetensors": False,
    }
    assert "damaged" in found["weights b.safetensors"].found
    assert found["weights c.safetensors"].mend == "pip install --force-reinstall --no-deps unisync"
    (tmp_path / ".git").mkdir()
    (tmp_path / "weights").mkdir()
    (lost,) = doctor._weights(tmp_path / "weights")
    assert lost.mend == f"git checkout -- {tmp_path / 'weights'}"


def test_every_codec_of_ours_writes_here() -> None:
    checks = list(doctor._codecs())
    assert {check.name.removeprefix("codec ") for check in checks} == {"h264", "hevc", "av1", "vp9", "prores", "ffv1"}
    assert [check.found for check in checks if not check.ok] == []


def test_missing_face_models_come_with_the_command_that_mends_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detect, "FILES", {"mesh": "modules/nowhere.tflite"})
    check = doctor._face_models()
    assert not check.ok
    assert check.needed
    assert check.mend == "pip install --no-deps mediapipe==0.10.14"


def test_two_opencvs_are_told_apart_from_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor._opencv().ok

    class Wheel:
        def __init__(self, name: str) -> None:
            self.metadata = {"Name": name}

    monkeypatch.setattr(doctor, "distributions", lambda: [Wheel("opencv-python"), Wheel("opencv-python-headless")])
    check = doctor._opencv()
    assert not check.ok
    assert (
        check.mend == "pip uninstall -y opencv-python opencv-python-headless && pip install 'opencv-python-headless<5'"
    )
