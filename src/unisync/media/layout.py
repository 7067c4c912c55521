"""Where a picture's samples lie: planes of a pixel format, and how the stored picture is turned to stand upright."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import av
import numpy as np
from numpy.typing import NDArray

from unisync.types import Area

_SUBSAMPLING = {(1, 1): "444", (2, 1): "422", (2, 2): "420", (4, 1): "411", (1, 2): "440", (4, 4): "410"}


@dataclass(frozen=True)
class Layout:
    """A pixel format. kind: what its components are; across, down: luma pixels per chroma sample."""

    name: str
    kind: Literal["rgb", "yuv", "gray"]
    bits: int
    across: int
    down: int
    alpha: bool
    planes: tuple[int, ...]
    planar: bool

    def __str__(self) -> str:
        if self.kind == "yuv":
            colour = ":".join(_SUBSAMPLING.get((self.across, self.down), "???"))
            return f"{self.bits}-bit {colour}"
        return f"{self.bits}-bit {'RGB' if self.kind == 'rgb' else 'gray'}"


@lru_cache(maxsize=256)
def layout_of(pix_fmt: str) -> Layout:
    """Describe a pixel format. planes: the plane of each colour component, R G B or Y U V; planar: ours to edit."""
    description = av.VideoFormat(pix_fmt, 1024, 1024)
    colours = [part for part in description.components if not part.is_alpha]
    palette = description.has_palette
    rgb = description.is_rgb or palette or pix_fmt.startswith(("bayer", "xyz"))
    kind: Literal["rgb", "yuv", "gray"] = "rgb" if rgb else "gray" if len(colours) < 3 else "yuv"
    bits = max(part.bits for part in description.components)
    floating = pix_fmt.endswith(("f16le", "f16be", "f32le", "f32be"))
    planes = tuple(part.plane for part in colours)
    planar = (
        len({part.plane for part in description.components}) == len(description.components)
        and pix_fmt.startswith(("yuv", "gbr", "gray"))
        and not (palette or description.is_bit_stream or description.is_big_endian or floating or "msb" in pix_fmt)
    )
    return Layout(
        name=pix_fmt,
        kind=kind,
        bits=8 if palette else 16 if floating else bits,
        across=1024 // description.chroma_width(1024) if kind == "yuv" else 1,
        down=1024 // description.chroma_height(1024) if kind == "yuv" else 1,
        alpha=len(description.components) > len(colours),
        planes=planes,
        planar=planar,
    )


def working_format(pix_fmt: str) -> str:
    """Return the planar, little-endian format a film is kept in after reading: its own where that is planar already.

    Packed, half-planar, palette, bit-stream, big-endian and float formats become the planar one of the same family,
    subsampling and depth (nv12 -> yuv420p, p010le -> yuv420p10le, rgb24 and pal8 -> gbrp, rgba -> gbrap, ya8 -> gray).
    """
    layout = layout_of(pix_fmt)
    if layout.planar:
        return pix_fmt
    depth = next(bits for bits in (8, 10, 12, 14, 16) if bits >= min(layout.bits, 16))
    suffix = "" if depth == 8 else f"{depth}le"
    if layout.kind == "rgb":
        return f"gbrap{suffix}" if layout.alpha else f"gbrp{suffix}"
    if layout.kind == "gray":
        return f"gray{suffix}"
    return f"yuv{_SUBSAMPLING.get((layout.across, layout.down), '444')}p{suffix}"


def plane(frame: av.VideoFrame, index: int) -> NDArray[Any]:
    """Return one plane of a planar frame as a view, uint8 or uint16 (rows, columns)."""
    stored = frame.planes[index]
    samples = np.frombuffer(memoryview(stored), "u1" if layout_of(frame.format.name).bits <= 8 else "<u2")
    rows: NDArray[Any] = samples.reshape(stored.height, -1)[:, : stored.width]
    return rows


def copy_frame(frame: av.VideoFrame, area: Area | None = None) -> av.VideoFrame:
    """Return a planar frame, or an area of it, with its own memory; beyond the frame its last samples are repeated.

    area: stored luma pixels, beginning on whole chroma samples.
    """
    left, top, right, bottom = area or (0, 0, frame.width, frame.height)
    layout = layout_of(frame.format.name)
    copy = av.VideoFrame(right - left, bottom - top, layout.name)
    for index in range(len(frame.planes)):
        target, source = plane(copy, index), plane(frame, index)
        across, down = (layout.across, layout.down) if index in layout.planes[1:] else (1, 1)
        source = source[top // down :, left // across :][: target.shape[0], : target.shape[1]]
        rows, columns = source.shape
        target[:rows, :columns] = source
        target[rows:, :columns] = source[-1:]
        target[:, columns:] = target[:, columns - 1 : columns]
    copy.color_primaries, copy.color_trc = frame.color_primaries, frame.color_trc
    copy.colorspace, copy.color_range = frame.colorspace, frame.color_range
    return copy


@dataclass(frozen=True)
class Turn:
    """From stored to upright: first rows and columns swap if `swaps`, then the picture is mirrored."""

    swaps: bool = False
    mirrors_x: bool = False
    mirrors_y: bool = False

    @classmethod
    def of_matrix(cls, matrix: tuple[int, ...] | None) -> Turn:
        """Read a display matrix (nine numbers, 16.16); anything but quarter turns and mirrors counts as none."""
        if matrix is None:
            return cls()
        a, b, _, c, d = (0 if abs(value) < 1 << 15 else value for value in matrix[:5])
        if a and d and not b and not c:
            return cls(False, a < 0, d < 0)
        if b and c and not a and not d:
            return cls(True, c < 0, b < 0)
        return cls()

    def upright(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Turn an array (H, W, …) upright; a view."""
        turned = stored.swapaxes(0, 1) if self.swaps else stored
        turned = turned[:, ::-1] if self.mirrors_x else turned
        return turned[::-1] if self.mirrors_y else turned

    def stored(self, upright: NDArray[Any]) -> NDArray[Any]:
        """Turn an upright array back to how the file stores it; a view."""
        turned = upright[::-1] if self.mirrors_y else upright
        turned = turned[:, ::-1] if self.mirrors_x else turned
        return turned.swapaxes(0, 1) if self.swaps else turned

    def corner(self, x: int, y: int, shape: tuple[int, ...], size: tuple[int, int]) -> tuple[int, int]:
        """Return the stored left and top of an upright rectangle. shape: its (h, w, …); size: upright (W, H)."""
        x = size[0] - x - shape[1] if self.mirrors_x else x
        y = size[1] - y - shape[0] if self.mirrors_y else y
        return (y, x) if self.swaps else (x, y)
