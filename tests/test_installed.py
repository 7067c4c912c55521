"""What the running interpreter has installed: nothing that drags in gigabytes, nothing that is there twice."""

from __future__ import annotations

import os
import re
from importlib.metadata import PackageNotFoundError, distribution, distributions

CUDA = re.compile(r"nvidia-.*|cuda-.*|cupy.*|triton")
REFUSED = {"torchvision", "torchaudio", "torchcodec", "librosa", "decord", "dlib"}
OPENCV = re.compile(r"opencv-(contrib-)?python(-headless)?")


def names() -> set[str]:
    return {(d.metadata["Name"] or "").lower().replace("_", "-") for d in distributions()}


def wanted_by(package: str) -> set[str]:
    """Return everything that a package requires, and what that requires."""
    found: set[str] = set()
    todo = [package]
    while todo:
        try:
            lines = distribution(todo.pop()).requires or []
        except PackageNotFoundError:
            continue
        new = {re.split(r"[^\w.-]", line)[0].lower().replace("_", "-") for line in lines if "extra ==" not in line}
        todo += new - found
        found |= new
    return found


def test_no_cuda_packages() -> None:
    """Whoever installed a CUDA torch has what that brings; in CI it is the CPU build, and nothing may bring CUDA."""
    found = {name for name in names() if CUDA.fullmatch(name)}
    chosen = set() if os.environ.get("CI") else wanted_by("torch")
    assert not found - chosen, "a dependency pulled these in; find which, and refuse it"


def test_nothing_refused() -> None:
    assert not names() & REFUSED


def test_one_opencv() -> None:
    assert {name for name in names() if OPENCV.fullmatch(name)} == {"opencv-python-headless"}
