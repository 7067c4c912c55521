"""The papers' learned metrics of a folder of made films, one table (python benchmarks/published.py MADE SOURCES).

MADE holds finished films, SOURCES a film of the same name (whatever its suffix) for each. All films together give one
figure: FID and FVD need thousands of frames. The sources stand below as films that were made of themselves, so that
LSE-C above theirs is seen for what it is. Weights are looked for where docs/models.md says.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from footage import films
from tables import figure, header, line
from unisync.bench.judge import pooled
from unisync.errors import MediaError
from unisync.metrics.base import Value

NAMES = ("fid", "fvd", "fvd_rgb_imagenet", "csim", "lse_c_tracked", "lse_c_frame")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("made", type=Path)
    parser.add_argument("sources", type=Path)
    parser.add_argument("--only", nargs="*", default=[], help="parts of file names")
    given = parser.parse_args()
    made = films(given.made, given.only)
    sources = [source_of(path, given.sources) for path in made]
    rows = {"made": judge_all(made, sources), "the sources themselves": judge_all(sources, sources)}
    columns = list(rows["made"])
    print(header([f"{len(made)} films", *columns]))
    for name, figures in rows.items():
        print(line([name, *(figure(figures, column) for column in columns)]))


def source_of(path: Path, folder: Path) -> Path:
    """Return the film of that name in a folder. Raises MediaError if there is none."""
    source = next((other for other in films(folder) if other.stem == path.stem), None)
    if source is None:
        raise MediaError(f"{folder}: holds no film named {path.stem}, the source of {path.name}; put it there")
    return source


def judge_all(made: Sequence[Path], sources: Sequence[Path]) -> dict[str, Value]:
    """Return every figure of some films beside their sources by name."""
    return pooled(NAMES, [(path, source, 0.0) for path, source in zip(made, sources, strict=True)])


if __name__ == "__main__":
    main()
