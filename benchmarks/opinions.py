"""What several sync experts make of a folder of made films (python benchmarks/opinions.py MADE SOURCES EXPERT…).

MADE holds finished films, SOURCES the film that each was made from, by name; EXPERT files come from `unisync train
recipes/expert.toml`. Weights that learnt from the shipped expert please that one in any case: what an expert says that
was trained apart from it, with another seed on other clips, is the better witness.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from footage import films
from published import source_of
from tables import figure, header, line, median
from unisync.bench.footage import look, pairs
from unisync.media import read_sound
from unisync.metrics.base import Value
from unisync.metrics.expert import ExpertSync, load_expert


def main() -> None:
    """Print a table: a row for each film, a column for each expert's confidence."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("made", type=Path)
    parser.add_argument("sources", type=Path)
    parser.add_argument("experts", type=Path, nargs="+", metavar="expert")
    parser.add_argument("--only", nargs="*", default=[], help="parts of file names")
    given = parser.parse_args()
    experts = {"shipped": load_expert()} | {str(path): load_expert(path) for path in given.experts}
    print(header(["film", *experts]))
    rows = []
    for made in films(given.made, given.only):
        metrics = {name: ExpertSync(expert) for name, expert in experts.items()}
        sound = read_sound(made)
        for window, truth in pairs(look(made), look(source_of(made, given.sources)), sound):
            for metric in metrics.values():
                metric.update(window, truth)
        told: dict[str, Value] = {name: figure(metric.compute(), metric.name) for name, metric in metrics.items()}
        print(line([made.name, *map(_precise, told.values())]), flush=True)
        rows.append(told)
    print(line(["**median**", *(_precise(median(rows, name)) for name in experts)]))


def _precise(value: Value | None) -> Value | None:
    """Return a confidence with three decimals, all of which are small."""
    return f"{value:.3f}" if isinstance(value, float) else value


if __name__ == "__main__":
    main()
