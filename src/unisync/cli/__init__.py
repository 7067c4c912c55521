"""The command line. It reads flags and says what happened; the work is behind `api`.

`--help` has to come at once, so everything heavy is imported inside the commands.
"""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

from unisync.cli import evaluation, films, jobs, machine, server, training
from unisync.cli.app import app

__all__ = ["app", "evaluation", "films", "jobs", "machine", "main", "server", "training"]


def _terminated(signum: int, _frame: object) -> NoReturn:
    """Leave the way an error does, so that half-written files are removed."""
    sys.exit(128 + signum)


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGTERM, _terminated)
    app(prog_name="unisync")
