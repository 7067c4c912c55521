"""Fit NIQE's Gaussian to pictures that ship with scikit-image and write src/unisync/data/niqe-ours.npz.

Pictures of 96 px and more that show things as a good camera sees them: no text or drawing, nothing through a microscope or
telescope, one of two that show the same; chelsea, the cat, is kept aside to try the fit on. Mittal 2013 (part II.C) takes
125 pictures, and of their blocks those with three quarters of the contrast of the sharpest. Here are nine: so that blocks
are many and of many kinds, a quarter will do, they overlap by half, and large pictures count at half their size as well. No
picture is written, only the mean and the covariance of 36 figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray

from unisync.metrics.natural import BLOCK, Pristine, luma, niqe_features, our_pristine
from unisync.types import Pixels

PICTURES = ("astronaut", "brick", "camera", "coffee", "coins", "grass", "gravel", "motorcycle", "rocket")
ASIDE = "chelsea"
SHARP = 0.25
STEP = BLOCK // 2
LARGE = 4 * BLOCK


def picture(name: str) -> Pixels:
    """Return a picture of scikit-image's, uint8 (H, W, 3)."""
    found = skimage.data.stereo_motorcycle()[0] if name == "motorcycle" else getattr(skimage.data, name)()
    pixels: Pixels = np.asarray(found, np.uint8)
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., :3])


def sharp_features(pixels: Pixels) -> NDArray[np.float64]:
    """Return the features (N, 36) of one view's sharp blocks."""
    parts = [niqe_features(luma(pixels)[y:, x:]) for y in (0, STEP) for x in (0, STEP)]
    features, sharpness = (np.concatenate(rows) for rows in zip(*parts, strict=True))
    return np.asarray(features[(sharpness > SHARP * sharpness.max()) & np.isfinite(features).all(1)])


def views(pixels: Pixels) -> Iterator[Pixels]:
    """Yield a picture and, if it is large, the same at half its size."""
    yield pixels
    if min(pixels.shape[:2]) >= LARGE:
        yield np.asarray(cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)


def fit(pictures: Iterable[Pixels]) -> tuple[Pristine, int]:
    """Return the Gaussian of the pictures' sharp blocks, and how many blocks it is of."""
    features = np.concatenate([sharp_features(view) for pixels in pictures for view in views(pixels)])
    return Pristine(features.mean(0), np.cov(features, rowvar=False)), len(features)


def main() -> None:
    """Write the file."""
    pristine, num = fit(map(picture, PICTURES))
    path = our_pristine()
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as file:
        np.savez(file, mu_pris_param=pristine.mean, cov_pris_param=pristine.covariance)
    temporary.replace(path)
    print(f"{path.name}: {num} blocks of {len(PICTURES)} pictures, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
