"""Puts benchmarks/ on the path, behind everything else, so that its scripts can be imported as they import each other."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
