from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
import pytest

from faces import lay
from unisync.face.align import crop, crop_frame, enlarged, finer
from unisync.face.paste import paste
from unisync.types import Area, ArrayPicture, Floats, Frame, Patch, Pixels

SIZE = 64


def frame(pixels: Pixels) -> Frame:
    return Frame(0, Fraction(0), ArrayPicture(pixels))


def look(x: float, y: float, side: float, degrees: float = 0) -> Floats:
    """Return the matrix of a canvas of `side` frame px around (x, y)."""
    zoom, turn = SIZE / side, np.radians(degrees)
    linear = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return np.column_stack([linear, SIZE / 2 - 0.5 - linear @ (x, y)]).astype(np.float32)


def disc() -> Floats:
    mask = np.zeros((SIZE, SIZE), np.float32)
    cv2.circle(mask, (SIZE // 2, SIZE // 2), 20, 1, -1)
    return cv2.GaussianBlur(mask, (9, 9), 3)


@pytest.mark.parametrize("place", [(240, 180), (20, 30), (470, 170), (250, 350), (-20, 400)])
@pytest.mark.parametrize(("side", "degrees"), [(300, 20), (100, 0), (64, 0), (30, -10)])
def test_a_canvas_needs_only_a_part_of_its_frame(side: float, degrees: float, place: tuple[float, float]) -> None:
    picture = lay([(240, 180, 1.5)])
    whole = ArrayPicture(picture)
    asked: list[int] = []

    class Seen(ArrayPicture):
        def rgb(self, area: Area | None = None) -> Pixels:
            pixels = whole.rgb(area)
            asked.append(pixels.shape[0] * pixels.shape[1])
            return pixels

    matrix = look(*place, side, degrees)
    made = crop_frame(Frame(0, Fraction(0), Seen(picture)), matrix, SIZE)
    assert np.abs(made.astype(int) - crop(picture, matrix, SIZE)).max() <= 1
    assert asked[0] < max(5 * side**2, 200)


def pasted(on: Frame, pixels: Pixels, mask: Floats, matrix: Floats, keep: Floats) -> Frame:
    return paste(on, Patch(0, pixels, mask, matrix, crop_frame(on, matrix, SIZE), keep))


@pytest.mark.parametrize(("side", "degrees"), [(300, 0), (300, 25), (64, 0), (30, -10)])
def test_outside_the_mask_nothing_changes_inside_the_canvas_shows(side: float, degrees: float) -> None:
    picture = lay([(240, 180, 1.5)])
    red = np.full((SIZE, SIZE, 3), (255, 0, 0), np.uint8)
    made = pasted(frame(picture), red, disc(), look(240, 180, side, degrees), np.zeros((SIZE, SIZE), np.float32))
    (edit,) = made.edits
    y, x = np.mgrid[0:360, 0:480]
    away = np.hypot(x - 240, y - 180) / side * SIZE
    assert (made.pixels[away > 29] == picture[away > 29]).all()
    assert (made.pixels[away < 12] == (255, 0, 0)).all()
    assert edit.mask.max() == 1
    assert edit.mask.shape[0] < 1.1 * side


def test_an_unchanged_canvas_leaves_the_frame_to_the_bit_where_its_texture_is_kept() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (360, 480, 3)).astype(np.uint8)
    matrix = look(240, 180, 300, 10)
    keep = np.ones((SIZE, SIZE), np.float32)
    made = pasted(frame(picture), crop(picture, matrix, SIZE), disc(), matrix, keep)
    assert (made.pixels == picture).all()


def test_texture_comes_back_only_where_it_is_kept() -> None:
    picture = np.full((360, 480, 3), 120, np.uint8)
    picture[::2] += 20  # finer than the canvas holds
    matrix = look(240, 180, 300)
    brighter = crop(picture, matrix, SIZE) + 30
    for share, spread in ((1.0, 20), (0.0, 0)):
        keep = np.full((SIZE, SIZE), share, np.float32)
        middle = pasted(frame(picture), brighter, disc(), matrix, keep).pixels[150:210, 220:260].astype(int)
        assert abs(middle.mean() - 160) < 2
        assert abs(np.ptp(middle) - spread) <= 3


@pytest.mark.parametrize("place", [(0, 0), (479, 359), (240, -60), (240, 300)])
def test_a_face_partly_outside_is_clipped(place: tuple[int, int]) -> None:
    picture = lay([])
    grey = np.full((SIZE, SIZE, 3), 200, np.uint8)
    made = pasted(frame(picture), grey, disc(), look(*place, 300), np.zeros((SIZE, SIZE), np.float32))
    (edit,) = made.edits
    height, width = edit.mask.shape
    assert edit.x >= 0
    assert edit.y >= 0
    assert edit.x + width <= 480
    assert edit.y + height <= 360
    assert (made.pixels != picture).any()


def test_without_a_mask_or_wholly_outside_the_frame_stays() -> None:
    picture, black = lay([]), np.zeros((SIZE, SIZE, 3), np.uint8)
    keep = np.ones((SIZE, SIZE), np.float32)
    whole = frame(picture)
    assert pasted(whole, black, np.zeros_like(keep), look(240, 180, 300), keep) is whole
    assert pasted(whole, black, disc(), look(2000, 180, 300), keep) is whole


def test_a_second_face_goes_on_top_of_the_first() -> None:
    made = frame(lay([]))
    for x in (140, 340):
        white = np.full((SIZE, SIZE, 3), 255, np.uint8)
        made = pasted(made, white, disc(), look(x, 180, 120), np.zeros((SIZE, SIZE), np.float32))
    assert len(made.edits) == 2
    assert (made.pixels[180, [140, 340]] == 255).all()


def test_an_enlarged_canvas_shows_what_the_canvas_cannot_hold() -> None:
    """Fine stripes in the middle arrive; where the film's own texture is kept, the film stays as it is to a level."""
    picture = np.random.default_rng(0).integers(100, 120, (360, 480, 3)).astype(np.uint8)
    matrix = look(240, 180, 4 * SIZE)
    fine = crop(picture, enlarged(matrix, 4).astype(np.float32), 4 * SIZE)
    soft = np.asarray(
        cv2.resize(crop(picture, matrix, SIZE), None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC), np.uint8
    )
    soft[100:156, 100:156] = fine[100:156, 100:156]
    soft[100:156:4, 100:156] = 250
    keep = np.ones((SIZE, SIZE), np.float32)
    keep[22:42, 22:42] = 0
    made = pasted(frame(picture), soft, disc(), matrix, keep).pixels.astype(int)
    stripes = made[180 - 16 : 180 + 16, 240 - 16 : 240 + 16].mean((1, 2))
    assert np.ptp(stripes) > 80  # stripes lie half a pixel beside the rows
    still = np.abs(made - picture)[180 - 60 : 180 - 48, 200:280]
    assert still.max() <= 2


@pytest.mark.parametrize("shift", [0.0, 0.25, 0.5])
def test_a_canvas_keeps_fine_texture_wherever_its_pixels_lie(shift: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200)).astype(np.uint8)
    picture = cv2.GaussianBlur(np.dstack([noise] * 3), (0, 0), 0.8)
    made = crop(picture, look(100 + shift, 100, SIZE), SIZE, cv2.INTER_CUBIC)
    fine = [float(np.var(cv2.Laplacian(p.astype(np.float32), cv2.CV_32F))) for p in (made, picture)]
    assert 0.7 < fine[0] / fine[1] < 1.3  # a linear warp keeps .37 at half a pixel


def test_how_much_larger_a_canvas_must_be() -> None:
    assert [finer(look(0, 0, side)[None]) for side in (40, 80, 100, 159, 170, 400)] == [1, 1, 2, 2, 4, 4]
