"""A decoded picture kept as the decoder gave it: RGB only when asked, edits written into a copy of its own planes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from unisync.media.colour import Colour, Tags, convert, from_rgb
from unisync.media.layout import Layout, Turn, copy_frame, layout_of, plane
from unisync.types import Area, Edit, Pixels


@dataclass(frozen=True, eq=False)
class AvPicture:
    """A frame in one of the planar working formats. `frame` is not to be written to: the decoder may still use it."""

    frame: av.VideoFrame
    colour: Colour
    turn: Turn

    @property
    def size(self) -> tuple[int, int]:
        width, height = self.frame.width, self.frame.height
        return (height, width) if self.turn.swaps else (width, height)

    def rgb(self, area: Area | None = None) -> Pixels:
        """Return a fresh uint8 (h, w, 3) RGB array, upright, of an area or of the whole picture."""
        left, top, right, bottom = area or (0, 0, *self.size)
        shape = bottom - top, right - left
        x, y = self.turn.corner(left, top, shape, self.size)
        height, width = shape[::-1] if self.turn.swaps else shape
        even, x, y = _even(self.frame, (x, y, x + width, y + height))
        # planes: the same values as rgb24's in half the time, as swscale has no vector code for it when told to be exact
        planar = convert(even, "gbrp", self.colour, Colour(self.colour.matrix, True))
        planes = [plane(planar, index)[y : y + height, x : x + width] for index in layout_of("gbrp").planes]
        return np.ascontiguousarray(self.turn.upright(np.asarray(cv2.merge(planes), np.uint8)))

    def copy(self) -> AvPicture:
        """Return the same picture with memory of its own."""
        return AvPicture(copy_frame(self.frame), self.colour, self.turn)

    def edited(self, edits: tuple[Edit, ...]) -> av.VideoFrame:
        """Return a copy of the frame with the edits written into its planes, and only where their mask is above 0.

        A chroma sample changes only where every pixel it covers may change.
        """
        frame = copy_frame(self.frame)
        layout = layout_of(frame.format.name)
        for edit in edits:
            left, top = self.turn.corner(edit.x, edit.y, edit.mask.shape, self.size)
            allowed = self.turn.stored(edit.mask > 0)
            pixels = self.turn.stored(edit.pixels)
            rows, columns = np.flatnonzero(allowed.any(1)), np.flatnonzero(allowed.any(0))
            if len(rows):
                inside = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
                corner = left + int(columns[0]), top + int(rows[0])
                _write(frame, layout, self.colour, corner, pixels[inside], allowed[inside])
        return frame


def from_pixels(pixels: Pixels, pix_fmt: str, tags: Tags, colour: Colour, turn: Turn) -> av.VideoFrame:
    """Turn upright uint8 (H, W, 3) RGB into a stored frame of a working format."""
    stored = np.ascontiguousarray(turn.stored(pixels))
    height, width = stored.shape[:2]
    layout = layout_of(pix_fmt)
    frame = av.VideoFrame(width, height, pix_fmt)
    for index in range(len(frame.planes)):
        if layout.alpha and index not in layout.planes:
            plane(frame, index)[:] = 2**layout.bits - 1
    _write(frame, layout, colour, (0, 0), stored, np.ones((height, width), bool))
    tags.stamp(frame)
    return frame


def _even(frame: av.VideoFrame, area: Area) -> tuple[av.VideoFrame, int, int]:
    """Return a piece of the frame that swscale turns into RGB like the whole, and where in it the stored area begins.

    Whole chroma samples, filled up at the frame's edge, since swscale stretches the chroma of an odd size; and a copy,
    which has lost the chroma siting that swscale would interpolate by.
    """
    layout = layout_of(frame.format.name)
    left, top = area[0] // layout.across * layout.across, area[1] // layout.down * layout.down
    right, bottom = -(-area[2] // layout.across) * layout.across, -(-area[3] // layout.down) * layout.down
    return copy_frame(frame, (left, top, right, bottom)), area[0] - left, area[1] - top


def _write(
    frame: av.VideoFrame,
    layout: Layout,
    colour: Colour,
    corner: tuple[int, int],
    pixels: Pixels,
    allowed: NDArray[np.bool_],
) -> None:
    """Write stored pixels at `corner` (left, top) into the planes of a frame, where allowed (h, w) says so."""
    left, top = corner
    height, width = allowed.shape
    if left < 0 or top < 0 or left + width > frame.width or top + height > frame.height:
        raise ValueError(f"an edit of {width}x{height} at {left}, {top} leaves the frame {frame.width}x{frame.height}")
    values = from_rgb(pixels, colour, layout.kind, layout.bits)
    for index, (number, component) in enumerate(zip(layout.planes, values, strict=True)):
        mask, x, y = allowed, left, top
        if index and (layout.across > 1 or layout.down > 1):
            component, mask = _subsample(component, allowed, layout, corner, (frame.width, frame.height))
            x, y = left // layout.across, top // layout.down
        target = plane(frame, number)
        codes = np.clip(np.rint(component), 0, 2**layout.bits - 1).astype(target.dtype)
        np.copyto(target[y : y + mask.shape[0], x : x + mask.shape[1]], codes, where=mask)


def _subsample(
    values: NDArray[np.float32],
    allowed: NDArray[np.bool_],
    layout: Layout,
    corner: tuple[int, int],
    size: tuple[int, int],
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Average each chroma sample's pixels; it is allowed where all of them are.

    Pixels of a sample that lie outside the rectangle forbid it; those that lie outside the frame do not exist.
    """
    pads, ends = [], []
    for start, length, cell, limit in zip(
        corner[::-1], allowed.shape, (layout.down, layout.across), size[::-1], strict=True
    ):
        pads.append((start % cell, -(start + length) % cell))
        ends.append(start + length == limit)
    padded = np.pad(values, pads, mode="edge")
    free = np.pad(allowed, pads, mode="edge")
    for axis, ((before, after), at_end) in enumerate(zip(pads, ends, strict=True)):
        lines = free.swapaxes(0, axis)
        lines[:before] = False
        if after and not at_end:
            lines[-after:] = False
    # sample by sample: numpy is several times as slow over two axes of a cell at once
    members = [np.s_[y :: layout.down, x :: layout.across] for y in range(layout.down) for x in range(layout.across)]
    total, whole = np.zeros_like(padded[members[0]]), np.ones_like(free[members[0]])
    for member in members:
        total += padded[member]
        whole &= free[member]
    return total / np.float32(len(members)), whole
