"""Write docs/cli.md from the command line's own help; a test checks that it is current."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "cli.md"
COMMANDS = (
    "",
    "dub",
    "scan",
    "inspect",
    "prepare",
    "jobs",
    *(f"jobs {verb}" for verb in ("add", "run", "list", "show", "cancel", "retry", "remix", "delete")),
    "batch",
    "watch",
    "serve",
    "train",
    "demo",
    "doctor",
    "models",
    "evaluate",
    "evaluate run",
    "evaluate diff",
    "evaluate import",
    "evaluate build",
)
HEAD = "# The command line\n\nWritten by `make docs` from `unisync --help`; do not edit.\n"


def page() -> str:
    """Return the page as the code has it now."""
    parts = [HEAD]
    for command in COMMANDS:
        call = [sys.executable, "-m", "unisync", *command.split(), "--help"]
        environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
        text = subprocess.run(call, env=environment, check=True, capture_output=True, text=True).stdout
        lines = "\n".join(line.rstrip() for line in text.strip().splitlines())
        parts.append(f"## {f'unisync {command}'.strip()}\n\n```\n{lines}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
    print(f"written: {PAGE.name}")
