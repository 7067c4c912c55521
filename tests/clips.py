"""Real clips beside the checkout; tests that want them are skipped where there are none."""

from __future__ import annotations

from pathlib import Path

import pytest

_FOLDER = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "clips"

CLIPS: Path | None = _FOLDER if _FOLDER.is_dir() else None

needs_clips = pytest.mark.skipif(CLIPS is None, reason=f"the real clips are not in {_FOLDER}")
