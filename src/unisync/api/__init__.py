"""The verbs. Everything a doorstep may ask for; each imports what it needs when it is called."""

from __future__ import annotations

from unisync.api import jobs
from unisync.api.arrays import dub_frames
from unisync.api.evaluation import Evaluated, build_suite, compare, evaluate, import_suite
from unisync.api.films import (
    contact_sheet,
    demo,
    dub,
    follow,
    follows,
    inspect,
    leading,
    load_plan,
    measure,
    outline,
    rows,
    save_plan,
    scan,
)
from unisync.api.machine import (
    check_models,
    doctor,
    encode_text,
    list_methods,
    list_models,
    model_rows,
    models_folder,
    parts,
    plan_memory,
    recognise,
)
from unisync.api.training import prepare, train

__all__ = [
    "Evaluated",
    "build_suite",
    "check_models",
    "compare",
    "contact_sheet",
    "demo",
    "doctor",
    "dub",
    "dub_frames",
    "encode_text",
    "evaluate",
    "follow",
    "follows",
    "import_suite",
    "inspect",
    "jobs",
    "leading",
    "list_methods",
    "list_models",
    "load_plan",
    "measure",
    "model_rows",
    "models_folder",
    "outline",
    "parts",
    "plan_memory",
    "prepare",
    "recognise",
    "rows",
    "save_plan",
    "scan",
    "train",
]
