"""What a training shows of itself: a line of JSON, and TensorBoard's scalars and pictures."""

from __future__ import annotations

import json
from pathlib import Path

from torch import Tensor

from unisync.errors import OptionError


class Board:
    """Writes FOLDER/board; a board that is not the main process's writes nothing."""

    def __init__(self, folder: Path, main: bool) -> None:
        self._writer = None
        if main:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise OptionError("training needs tensorboard: pip install 'unisync[train]'") from error
            self._writer = SummaryWriter(str(folder / "board"))

    def scalars(self, step: int, figures: dict[str, float]) -> None:
        """Draw figures."""
        if self._writer is not None:
            for name, value in figures.items():
                self._writer.add_scalar(name, value, step)

    def line(self, step: int, figures: dict[str, float]) -> None:
        """Draw figures, and print them as one line of JSON."""
        self.scalars(step, figures)
        if self._writer is not None:
            rounded = {name: round(value, 5 if abs(value) < 100 else 1) for name, value in figures.items()}
            print(json.dumps({"step": step, **rounded}), flush=True)

    def picture(self, step: int, grid: Tensor) -> None:
        """Show a picture uint8 (H, W, 3)."""
        if self._writer is not None:
            self._writer.add_image("source | painted | truth", grid, step, dataformats="HWC")

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()
