"""The container's files, as far as they can be held to the rest without building it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")


def test_everything_copied_is_there_and_not_ignored() -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    kept = [line[1:] for line in lines if line.startswith("!")]
    copied = [word for line in re.findall(r"^COPY (?!--)(.*)$", DOCKERFILE, re.MULTILINE) for word in line.split()[:-1]]
    assert len(copied) == 6
    for name in copied:
        assert (ROOT / name).exists() and any(fnmatch(name, pattern) for pattern in kept), name
    assert set(kept) == set(copied), "what is not copied need not be sent"


def test_versions_are_those_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    (models,) = re.findall(r"^FACE_MODELS := (\S+)$", makefile, re.MULTILINE)
    assert f" {models}\n" in DOCKERFILE


def test_it_is_nobody_of_note_and_says_how_it_is() -> None:
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER 1000", final, re.MULTILINE) and "HEALTHCHECK" in final
    (service,) = [
        s
        for name, s in yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"].items()
        if "gpu" not in name
    ]
    assert service["cap_drop"] == ["ALL"] and service["read_only"] is True
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_the_dockerfile_has_no_known_fault() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install '.[dev]'")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
