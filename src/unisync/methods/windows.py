"""A stream of canvases cut into overlapping windows, and the painted windows joined again."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from unisync.methods.base import Spec
from unisync.types import Floats, Mouths, Pixels, Reference, Sound, Window


@dataclass(frozen=True, eq=False)
class Canvas:
    """One frame of a track on its canvas. pixels: uint8 (S, S, 3); seconds: its moment; landmarks: (468, 2) canvas px."""

    index: int
    pixels: Pixels
    seconds: float
    landmarks: Floats


def windows(
    canvases: Iterator[Canvas], spec: Spec, sound: Sound, reference: Reference | None, mouths: Mouths | None = None
) -> Iterator[Window]:
    """Yield windows of spec.length frames, neighbours sharing spec.overlap or more; the last ends on the last frame.

    A track shorter than a window is continued by going back and forth over its own frames (times go on rising), to
    spec.filled frames; `stitch` drops what was added.
    """
    held: deque[Canvas] = deque(maxlen=spec.length)
    due, seen = spec.length, 0
    for canvas in canvases:
        held.append(canvas)
        seen += 1
        if seen == due:
            yield window_of(list(held), sound, reference, mouths)
            due += spec.length - spec.overlap
    if 0 < seen < spec.length:
        yield window_of(_bounced(list(held), spec.filled(seen)), sound, reference, mouths)
    elif seen and seen != due - (spec.length - spec.overlap):
        yield window_of(list(held), sound, reference, mouths)


def num_windows(frames: int, spec: Spec) -> int:
    """Return how many windows a track of so many frames is cut into."""
    return 1 + max(0, -(-(frames - spec.length) // (spec.length - spec.overlap)))


def window_of(
    canvases: Sequence[Canvas], sound: Sound, reference: Reference | None = None, mouths: Mouths | None = None
) -> Window:
    """Return consecutive canvases as one window."""
    return Window(
        start=canvases[0].index,
        pixels=np.stack([c.pixels for c in canvases]),
        seconds=np.array([c.seconds for c in canvases]),
        landmarks=np.stack([c.landmarks for c in canvases]),
        sound=sound,
        reference=reference,
        mouths=mouths,
    )


def stitch(takes: Iterator[tuple[int, Pixels]], fade: int, stop: int) -> Iterator[tuple[int, Pixels]]:
    """Yield (frame index, canvas) once each up to `stop`; where takes overlap they are cross-faded over `fade` frames.

    takes: (start frame, canvases (T, S, S, 3)) in order, without gaps.
    """
    first = next(takes, None)
    if first is None:
        return
    begun, held = first
    for start, faces in takes:
        shared = begun + len(held) - start
        if shared < 0:
            raise ValueError(f"frames {begun + len(held)} to {start} were painted by no window")
        num = min(fade, shared, len(held))
        yield from enumerate(held[: len(held) - num], begun)
        weight = np.linspace(0, 1, num + 2, dtype=np.float32)[1:-1, None, None, None]
        mixed = held[len(held) - num :] * (1 - weight) + faces[shared - num : shared] * weight
        yield from enumerate(mixed.round().astype(np.uint8), begun + len(held) - num)
        begun, held = start + shared, faces[shared:]
    yield from enumerate(held[: max(0, stop - begun)], begun)


def _bounced(canvases: list[Canvas], length: int) -> list[Canvas]:
    """Return `length` canvases that go back and forth over the given ones, their times rising evenly."""
    num = len(canvases)
    step = (canvases[-1].seconds - canvases[0].seconds) / (num - 1) if num > 1 else 0.04
    cycle = [*range(num), *range(num - 2, 0, -1)] or [0]
    out = list(canvases)
    for i in range(num, length):
        source = canvases[cycle[i % len(cycle)]]
        out.append(Canvas(canvases[0].index + i, source.pixels, out[-1].seconds + step, source.landmarks))
    return out
