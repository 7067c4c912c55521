"""Figures as Markdown tables: two decimals, a dash where there is no figure, medians over the rows that have one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from unisync.metrics.base import Value


def header(columns: Sequence[str]) -> str:
    """Return a table's head."""
    return "| " + " | ".join(columns) + " |\n|" + "---|" * len(columns)


def line(cells: Sequence[Value | None]) -> str:
    """Return one row; None is a dash."""
    return "| " + " | ".join(map(cell, cells)) + " |"


def cell(value: Value | None) -> str:
    """Return a figure with two decimals, words as they are."""
    if value is None:
        return "–"
    return f"{value:.2f}" if isinstance(value, float) else value


def figure(figures: Mapping[str, Value], name: str) -> Value:
    """Return a figure, or a dash with the reason why there is none."""
    value = figures.get(name)
    if value is None:
        return "–"
    return value if isinstance(value, float) else f"– ({value})"


def median(rows: Sequence[Mapping[str, Value]], name: str) -> float | None:
    """Return the median of a figure over the rows that have it; None if no row has."""
    values = [value for row in rows if isinstance(value := row.get(name), float)]
    return float(np.median(values)) if values else None
