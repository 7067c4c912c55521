"""What this machine lacks, found by trying it, and the one command that mends each lack."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, distributions, version
from importlib.resources import files
from pathlib import Path

import numpy as np

from unisync.errors import UnisyncError
from unisync.types import ArrayPicture, Frame

PYTHON = (3, 11), (3, 13)
"""Versions from, and up to but not including."""
CONTAINERS = {"h264": ".mp4", "hevc": ".mp4", "av1": ".mkv", "vp9": ".webm", "prores": ".mov", "ffv1": ".mkv"}
NEEDED_CODEC = "h264"
DISK_BYTES = 1_000_000_000
MEMORY_BYTES = 2_000_000_000
OPENCV = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")


@dataclass(frozen=True)
class Check:
    """One thing looked at. needed: nothing can be dubbed without it.  mend: the command that puts it right."""

    name: str
    ok: bool
    found: str
    needed: bool = True
    mend: str | None = None


def check_all() -> Iterator[Check]:
    """Yield the checks, the quick ones first."""
    yield _python()
    yield _torch()
    yield _gpu()
    yield _threads()
    yield _memory()
    yield _disk()
    yield _opencv()
    yield _face_models()
    yield from _weights(Path(str(files("unisync") / "weights")))
    yield from _codecs()


def _python() -> Check:
    low, high = PYTHON
    found = sys.version_info[:3]
    mend = "apt-get install python3.11 python3.11-venv"
    return Check("Python", low <= found[:2] < high, ".".join(map(str, found)), mend=mend)


def _torch() -> Check:
    try:
        return Check("torch", True, version("torch"))
    except PackageNotFoundError:
        return Check("torch", False, "missing", mend="pip install 'torch>=2.6'")


def _gpu() -> Check:
    try:
        import torch
    except ImportError:
        return Check("GPU", False, "torch is missing", needed=False)
    if torch.cuda.is_available():
        return Check("GPU", True, torch.cuda.get_device_name(0), needed=False)
    if torch.backends.mps.is_available():
        return Check("GPU", True, "Apple", needed=False)
    return Check("GPU", True, "none: the CPU does the work", needed=False)


def _threads() -> Check:
    num = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Check("CPU threads", True, str(num), needed=False)


def _memory() -> Check:
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return Check("memory", True, "not known on this system", needed=False)
    return Check("memory", free >= MEMORY_BYTES, f"{free / 1e9:.1f} GB free, 2 wanted", needed=False)


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free
    return Check("disk", free >= DISK_BYTES, f"{free / 1e9:.1f} GB free here, 1 wanted", needed=False)


def _opencv() -> Check:
    wheels = sorted({(d.metadata["Name"] or "").lower() for d in distributions()} & set(OPENCV))
    ours = "opencv-python-headless"
    if wheels == [ours]:
        return Check("OpenCV", True, f"{ours} {version(ours)}")
    if not wheels:
        return Check("OpenCV", False, "missing", mend=f"pip install '{ours}<5'")
    mend = f"pip uninstall -y {' '.join(wheels)} && pip install '{ours}<5'"
    return Check("OpenCV", False, f"{' and '.join(wheels)} overwrite each other's files", len(wheels) > 1, mend)


def _face_models() -> Check:
    try:
        from unisync.face.detect import MEND, model_files
    except ImportError as error:
        return Check("face models", False, str(error), mend="pip install unisync")
    missing = [name for name, path in model_files().items() if path is None]
    found = f"missing: {', '.join(missing)}" if missing else ", ".join(model_files())
    return Check("face models", not missing, found, mend=MEND)


def _weights(folder: Path) -> Iterator[Check]:
    """Compare each weights file with its sum in SHA256SUMS."""
    try:
        lines = (folder / "SHA256SUMS").read_text("utf-8").splitlines()
    except OSError:
        yield Check("weights", False, "no SHA256SUMS among the weights", mend=_mend_weights(folder))
        return
    for line in lines:
        wanted, name = line.split(maxsplit=1)
        path = folder / name.lstrip("*")
        if not path.is_file():
            yield Check(f"weights {path.name}", False, "missing", mend=_mend_weights(folder))
        elif (found := hashlib.sha256(path.read_bytes()).hexdigest()) != wanted:
            yield Check(f"weights {path.name}", False, f"damaged: sha256 {found[:12]}…", mend=_mend_weights(folder))
        else:
            yield Check(f"weights {path.name}", True, f"{path.stat().st_size / 1e6:.1f} MB, sha256 {wanted[:12]}…")


def _mend_weights(folder: Path) -> str:
    if any((parent / ".git").exists() for parent in folder.parents):
        return f"git checkout -- {folder}"
    return "pip install --force-reinstall --no-deps unisync"


def _codecs() -> Iterator[Check]:
    """Write a few small frames with every codec."""
    from unisync.media import EncodeOptions, drawn, write_film

    mend = "pip install --force-reinstall --no-deps --only-binary av av"
    picture = ArrayPicture(np.full((64, 64, 3), 128, np.uint8))
    for codec, suffix in CONTAINERS.items():
        with tempfile.TemporaryDirectory(prefix="unisync-") as folder:
            frames = [Frame(i, Fraction(i, 25), picture) for i in range(8)]
            film = drawn("doctor", 64, 64, 25, len(frames))
            try:
                write_film(frames, Path(folder) / f"film{suffix}", film, encode=EncodeOptions(codec))
            except (UnisyncError, ValueError) as error:  # PyAV's "no such codec" is a ValueError
                yield Check(f"codec {codec}", False, str(error), codec == NEEDED_CODEC, mend)
            else:
                yield Check(f"codec {codec}", True, f"writes {suffix}", codec == NEEDED_CODEC)
