"""Colour: which matrix and range a film's planes are in, and the way from RGB to them and back.

RGB is read with the film's own matrix and range, every chroma sample standing for the luma pixels it covers
(no interpolation between samples), so that RGB outside an edit depends on nothing inside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import av
import numpy as np
from av.video.reformatter import Interpolation

from unisync.types import Floats, Pixels

UNSPECIFIED = 2
LIMITED, FULL = 1, 2

# ITU-T H.273 matrix code -> luma weights of red and blue, and the name swscale knows it by
_MATRICES = {
    1: (0.2126, 0.0722, "ITU709"),
    4: (0.30, 0.11, "FCC"),
    5: (0.299, 0.114, "ITU601"),
    6: (0.299, 0.114, "ITU601"),
    7: (0.212, 0.087, "SMPTE240M"),
    9: (0.2627, 0.0593, "BT2020"),
    10: (0.2627, 0.0593, "BT2020"),
}

# Without these three swscale's shortcut for 4:2:0 is three times as fast, but dark by more than a level on average.
EXACT = Interpolation.POINT | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


@dataclass(frozen=True)
class Tags:
    """The four colour tags as the file carries them (ITU-T H.273 codes; range 0 unspecified, 1 limited, 2 full)."""

    primaries: int = UNSPECIFIED
    trc: int = UNSPECIFIED
    matrix: int = UNSPECIFIED
    range: int = 0

    def stamp(self, frame: av.VideoFrame) -> None:
        """Write the tags on a frame."""
        frame.color_primaries, frame.color_trc = self.primaries, self.trc
        frame.colorspace, frame.color_range = self.matrix, self.range


@dataclass(frozen=True)
class Colour:
    """How planes are to be understood. matrix: a key of H.273, never unspecified."""

    matrix: int
    full: bool

    @property
    def swscale(self) -> tuple[str, str]:
        """The names swscale knows matrix and range by."""
        return _MATRICES[self.matrix][2], "JPEG" if self.full else "MPEG"

    @property
    def weights(self) -> tuple[float, float]:
        """Luma weights of red and of blue."""
        return _MATRICES[self.matrix][:2]


def understand(tags: Tags, pix_fmt: str, width: int, height: int) -> Colour:
    """Resolve the tags; an untagged film is BT.709 from 1280 columns or 720 lines on, else BT.601, limited range.

    The yuvj formats and gray are of full range unless tagged otherwise.
    """
    matrix = tags.matrix if tags.matrix in _MATRICES else 1 if width >= 1280 or height >= 720 else 6
    full = tags.range == FULL or pix_fmt.startswith("yuvj") or (tags.range == 0 and pix_fmt.startswith("gray"))
    return Colour(matrix, full)


def convert(frame: av.VideoFrame, pix_fmt: str, was: Colour, will: Colour) -> av.VideoFrame:
    """Return the frame in another pixel format, matrix or range; the same frame where nothing changes."""
    matrix, full = was.swscale
    to_matrix, to_full = will.swscale
    return frame.reformat(
        format=pix_fmt,
        src_colorspace=matrix,
        src_color_range=full,
        dst_colorspace=to_matrix,
        dst_color_range=to_full,
        interpolation=EXACT,
        threads=1,
    )


def from_rgb(pixels: Pixels, colour: Colour, kind: str, bits: int) -> list[Floats]:
    """Turn uint8 (h, w, 3) RGB into code values, one float32 (h, w) per component, chroma not yet subsampled.

    kind: "rgb", "yuv" or "gray".
    """
    scale = 2.0 ** (bits - 8)
    top = 255 * scale  # not 2**bits - 1: swscale reads by shifting, and what is put back must be what was read
    if kind == "rgb":
        return [pixels[..., index].astype(np.float32) * np.float32(scale) for index in range(3)]
    red, blue = colour.weights
    green = 1 - red - blue
    luma = np.array([red, green, blue])
    cb = (np.array([0.0, 0.0, 1.0]) - luma) / (2 * (1 - blue))
    cr = (np.array([1.0, 0.0, 0.0]) - luma) / (2 * (1 - red))
    black, white, chroma = (0.0, top, top) if colour.full else (16 * scale, 219 * scale, 224 * scale)
    rows = [(luma, white, black)]
    if kind == "yuv":
        rows += [(cb, chroma, 128 * scale), (cr, chroma, 128 * scale)]
    matrix = np.stack([row * (gain / 255) for row, gain, _ in rows], 1).astype(np.float32)
    values = pixels.astype(np.float32) @ matrix
    values += np.array([offset for *_, offset in rows], np.float32)
    return [values[..., index] for index in range(len(rows))]
