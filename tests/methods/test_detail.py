"""Painted lips get back the texture that painting took from the skin around them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from opening import SIZE, face
from unisync.mask import lips_mask
from unisync.methods.detail import LipsDetail
from unisync.types import Floats, Pixels

LANDMARKS = np.stack([face(opening) for opening in (0.0, 0.02, 0.06)])


def textured() -> Pixels:
    noise = np.random.default_rng(0).integers(0, 256, (len(LANDMARKS), SIZE, SIZE, 3)).astype(np.uint8)
    return softened(noise, 0.8)


def softened(pixels: Pixels, sigma: float = 0.6) -> Pixels:
    return np.stack([np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.uint8) for picture in pixels])


def inside() -> Floats:
    return np.stack([lips_mask(points, SIZE) for points in LANDMARKS])[..., None]


def roughness(pixels: Pixels) -> float:
    fine = [picture - cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 1.0) for picture in pixels]
    return float((np.square(fine) * (inside() == 1)).sum())


def test_lips_become_as_rough_as_they_were_before_painting_softened_them() -> None:
    film = textured()
    painted = softened(film)
    sharp = LipsDetail(1.0)(painted, film, LANDMARKS)
    assert roughness(painted) < 0.6 * roughness(film)
    assert roughness(sharp) == pytest.approx(roughness(film), rel=0.35)
    assert np.array_equal(sharp[inside()[..., 0] == 0], painted[inside()[..., 0] == 0])


def test_nothing_is_added_where_nothing_is_missing_or_wanted() -> None:
    film = textured()
    assert np.array_equal(LipsDetail(1.0)(film, softened(film), LANDMARKS), film)
    assert np.array_equal(LipsDetail(0.0)(softened(film), film, LANDMARKS), softened(film))


def test_the_films_own_lips_do_not_matter() -> None:
    film = textured()
    other = np.where(inside() == 1, 255 - film, film).astype(np.uint8)
    painted = softened(film)
    assert np.array_equal(LipsDetail(1.0)(painted, film, LANDMARKS), LipsDetail(1.0)(painted, other, LANDMARKS))
