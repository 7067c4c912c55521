"""Painted windows kept on the disk while a job runs, so that one that is stopped paints only the rest."""

from __future__ import annotations

import hashlib
import io
import shutil
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unisync.whole import write_whole

if TYPE_CHECKING:
    from unisync.methods.base import Keep, Paint
    from unisync.types import Pixels, Window

MOST_BYTES = 8 << 30
"""What all windows of a job may take on the disk: those beyond it are painted anew by a run that goes on."""
KEY_LETTERS = 16


class Kept:
    """The windows of one job, each a file of its own with a sum of its bytes. Several processes may write at once.

    folder: for windows of this key alone; what lies there of others is taken away.  on_window: is told how many windows
    were found and how many painted so far; may raise.
    """

    def __init__(self, folder: Path, key: str, on_window: Callable[[int, int], None]) -> None:
        self.folder = folder / key[:KEY_LETTERS]
        for other in folder.glob("*"):
            if other != self.folder:
                shutil.rmtree(other, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.found = self.painted = 0
        self._bytes = sum(path.stat().st_size for path in self.folder.glob("*.npz"))
        self._on_window, self._counting = on_window, threading.Lock()

    def of(self, track: str) -> Keep:
        """Return what keeps a track's windows."""

        def keep(window: Window, paint: Paint) -> Pixels:
            path = self.folder / f"{hashlib.sha256(track.encode()).hexdigest()[:KEY_LETTERS]}-{window.start}.npz"
            known = _read(path)
            pixels = paint(window) if known is None else known
            size = _write(path, pixels) if known is None and self._bytes < MOST_BYTES else 0
            with self._counting:
                self._bytes += size
                self.found += known is not None
                self.painted += known is None
                self._on_window(self.found, self.painted)
            return pixels

        return keep


def _read(path: Path) -> Pixels | None:
    """Return a window, None where there is none or its sum is wrong."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return np.asarray(file["pixels"], np.uint8)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zipfile.zlib.error):  # type: ignore[attr-defined]
        return None


def _write(path: Path, pixels: Pixels) -> int:
    """Write a window whole or not at all; return its size in bytes."""
    held = io.BytesIO()
    np.savez_compressed(held, pixels=pixels)
    write_whole(path, held.getvalue())
    return held.tell()
