"""UniSync: a film and new speech go in, the same film comes out with the lips speaking the new speech.

What is named here is what others may build on. Each name is imported when it is first asked for, so that `import unisync`
costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "Better",
    "Cancelled",
    "DubOptions",
    "DubbedFrames",
    "Evaluated",
    "FaceError",
    "Keep",
    "MediaError",
    "Method",
    "Metric",
    "OnProgress",
    "OptionError",
    "Performer",
    "Pixels",
    "Plan",
    "PrepareOptions",
    "Progress",
    "Report",
    "ScanOptions",
    "Shot",
    "Sound",
    "Spec",
    "Track",
    "TrainOptions",
    "UnisyncError",
    "Value",
    "WeightsError",
    "Window",
    "anew",
    "contact_sheet",
    "dub",
    "dub_frames",
    "evaluate",
    "inspect",
    "load_plan",
    "outline",
    "prepare",
    "save_plan",
    "scan",
    "train",
]

if TYPE_CHECKING:
    from unisync.api import (
        Evaluated,
        contact_sheet,
        dub,
        dub_frames,
        evaluate,
        inspect,
        load_plan,
        outline,
        prepare,
        save_plan,
        scan,
        train,
    )
    from unisync.arrays import DubbedFrames
    from unisync.errors import Cancelled, FaceError, MediaError, OptionError, UnisyncError, WeightsError
    from unisync.methods.base import Keep, Method, Performer, Spec, anew
    from unisync.metrics.base import Better, Metric, Value
    from unisync.options import DubOptions, PrepareOptions, ScanOptions, TrainOptions
    from unisync.types import OnProgress, Pixels, Plan, Progress, Report, Shot, Sound, Track, Window
else:  # a type checker would take any name for ours if it saw this

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module 'unisync' has no attribute {name!r}")
        for home in ("errors", "options", "types", "api", "methods.base", "metrics.base", "arrays"):
            module = import_module(f"unisync.{home}")
            if hasattr(module, name):
                globals()[name] = getattr(module, name)
                return globals()[name]
        raise AssertionError(f"{name} has no home")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
