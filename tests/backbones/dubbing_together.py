"""Started in several processes by test_wan: the command line, with public models in small."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from torch import Tensor

sys.path.append(str(Path(__file__).resolve().parents[1]))

from unisync.backbones.wan import together
from unisync.cli import app
from unisync.nets.attention import Rotary
from unisync.nets.parallel import ContextParallel
from unisync.nets.transformer import Run
from wan_folders import small_families


class Counted(ContextParallel):
    """Counts the forwards of which this process computed a part."""

    forwards = 0

    def __call__(self, run: Run, x: Tensor, steer: Tensor, rotary: Rotary) -> Tensor:
        Counted.forwards += 1
        return super().__call__(run, x, steer, rotary)


def main() -> None:
    together.ContextParallel = Counted  # type: ignore[misc]
    try:
        with small_families():
            app(sys.argv[1:])
    finally:
        sys.stderr.write(f"process {os.environ['RANK']}: {Counted.forwards} forwards\n")


if __name__ == "__main__":
    main()
