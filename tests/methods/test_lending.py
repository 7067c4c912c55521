"""Of a shot's mouths the nearest to the speech is lent, opened as asked, and stays what it was chosen for."""

from __future__ import annotations

import itertools
from dataclasses import replace

import cv2
import numpy as np
import pytest

from opening import SIZE, face
from unisync.methods.lending import BEYOND, SPOKEN, Lender, cheapest_path
from unisync.mouth import (
    INNER_LOWER,
    INNER_UPPER,
    PRESSED,
    STRETCH,
    choose_mouths,
    laid,
    lip_parameters,
    neutralised,
    opened,
    opening_warp,
)
from unisync.types import Floats, Mouths, Pixels, Reference, Sound, Window

HAIR, BROW = 5, (slice(round(0.28 * SIZE), round(0.36 * SIZE)), slice(round(0.35 * SIZE), round(0.45 * SIZE)))
OPENINGS = (0.0, 0.05, 0.1, 0.2)
SPREAD = np.full(6, 0.01, np.float32)


def lips(*openings: float) -> Floats:
    return np.stack([np.array([o, o, 0, 0, 0, 0], np.float32) for o in openings])


def canvas(opening: float, value: int = 200) -> Reference:
    """Return a face of one colour with nothing but black between its lips."""
    marks = face(opening)
    for inner, side in ((INNER_UPPER, -1), (INNER_LOWER, 1)):
        wave = np.sin(np.linspace(0, np.pi, len(inner)))
        marks[list(inner)] = np.stack([np.linspace(0.39, 0.61, len(inner)), 0.56 + side * opening / 2 * wave], 1) * SIZE
    pixels = np.full((SIZE, SIZE, 3), value, np.uint8)
    gap = np.concatenate([marks[list(INNER_UPPER)], marks[list(INNER_LOWER)][::-1]])
    if opening:
        cv2.fillPoly(pixels, [np.round(gap).astype(np.int32)], (0, 0, 0))
    return Reference(pixels, marks)


def haired(given: Reference) -> Reference:
    """Return the reference with black hair on its left and a black brow."""
    pixels = given.pixels.copy()
    pixels[:, :HAIR] = 0
    pixels[*BROW] = 0
    return Reference(pixels, given.landmarks)


def faded(given: Reference, share: float) -> Reference:
    pixels = np.round((1 - share) * given.pixels + share * 255).astype(np.uint8)
    return Reference(pixels, given.landmarks)


def mouths(shift: float = 0.0) -> Mouths:
    given = [canvas(opening) for opening in OPENINGS]
    marks = np.stack([r.landmarks for r in given]) + np.float32(shift * SIZE)
    return Mouths(np.stack([r.pixels for r in given]), marks, lips(*OPENINGS))


def window(start: int = 0, num: int = 4) -> Window:
    picture = canvas(0.1, 150)
    pixels, marks = np.stack([picture.pixels] * num), np.stack([picture.landmarks] * num)
    return Window(start, pixels, np.arange(start, start + num) / 25, marks, Sound(np.zeros(0, np.float32), 16000))


def darkness(reference: Reference) -> float:
    return float((255 - reference.pixels[..., 0].astype(float))[:, SIZE // 2].sum() - 55 * SIZE)


@pytest.mark.parametrize("share", [0.25, 0.5, 1.5])
def test_lips_are_opened_as_far_as_asked(share: float) -> None:
    wide = canvas(0.12)
    own = lip_parameters(wide.landmarks[None], SIZE)[0, 0]
    assert darkness(opened(wide, share * own)) == pytest.approx(
        share * darkness(wide), abs=1.5 * 200
    )  # a pixel and a half


def test_lips_close_and_what_lies_between_them_is_stretched_so_far_only() -> None:
    wide = canvas(0.12)
    assert darkness(opened(wide, 0.0)) < 2 * 200 < 0.25 * darkness(wide)
    own = float(lip_parameters(wide.landmarks[None], SIZE)[0, 0])
    assert not opening_warp(wide.landmarks, SIZE, STRETCH * own).invented.any()
    assert opening_warp(wide.landmarks, SIZE, 2 * STRETCH * own).invented.max() > 0.5


def test_pressed_lips_fold_over_each_other() -> None:
    """Stripes of their own height across the face: the upper lip keeps its own to the seam, the lower one loses some."""
    wide = canvas(0.12)
    rows = np.repeat(np.arange(SIZE, dtype=np.uint8)[:, None], SIZE, axis=1)
    striped = Reference(np.dstack([rows] * 3), wide.landmarks)
    column = SIZE // 2
    upper, lower = (wide.landmarks[point, 1] for point in (13, 14))
    shut, pressed = (opened(striped, o).pixels[:, column, 0].astype(int) for o in (0.0, -0.05))
    for seen, lost in ((shut, 0.0), (pressed, 0.05 * SIZE)):
        seam = int(np.diff(seen).argmax())
        assert seen[seam] == pytest.approx(upper, abs=1.5)
        assert seen[seam + 1] == pytest.approx(lower + lost, abs=2)
    assert opened(canvas(0.0), -0.05).pixels.shape == wide.pixels.shape


@pytest.mark.parametrize(("asked", "shown"), [(0.0, -PRESSED), (PRESSED / 2, 0.0), (PRESSED, PRESSED), (0.1, 0.1)])
def test_what_the_mesh_sees_in_shut_lips_is_not_shown(asked: float, shown: float) -> None:
    lent = Lender(mouths(), SPREAD).lent(window(num=1), lips(asked))
    assert lent.openings.tolist() == pytest.approx([shown], abs=1e-6)


@pytest.mark.parametrize("opening", [0.1, 0.2])
def test_sealed_lips_part_over_the_inside_of_a_mouth(opening: float) -> None:
    """As far as asked, dark, lighter under the upper lip, and not beyond the corners."""
    sealed = haired(canvas(0.0))
    made = opened(sealed, opening).pixels[..., 0].astype(int)
    middle = made[:, SIZE // 2]
    inside = np.flatnonzero(middle < 190)
    assert len(inside) == pytest.approx(opening * SIZE, abs=2.5)
    assert (
        middle.min() < 80 and middle[inside[: len(inside) // 2]].mean() > middle[inside[len(inside) // 2 : -1]].mean()
    )
    assert (made[:, HAIR : round(0.35 * SIZE)] == 200).all() and (made[:, round(0.65 * SIZE) :] == 200).all()


def test_what_is_made_up_between_lips_is_no_darker_than_the_darkest_of_a_faded_face() -> None:
    assert opened(faded(haired(canvas(0.0)), 0.8), 0.1).pixels.min() >= round(0.8 * 255)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_lent_mouths_fade_to_white_as_the_film_does(share: float) -> None:
    """The frame's own shut lips are faded; the mouth laid on them, open over black, comes out as if both had been."""
    wide, own = haired(canvas(0.1)), haired(canvas(0.0))
    frame = faded(own, share)
    made, gain = laid(frame.pixels, frame.landmarks, wide)
    plain, even = laid(own.pixels, own.landmarks, wide)
    wanted = faded(Reference(plain, own.landmarks), share).pixels
    assert plain.min() == 0 and np.abs(made.astype(int) - wanted).max() <= 3
    assert gain == pytest.approx(1 - share, abs=0.02) and even == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("hidden", [np.s_[:, :HAIR], BROW], ids=["hair", "brow"])
def test_one_dark_place_out_of_sight_is_no_fade(hidden: tuple[slice, slice]) -> None:
    """Pupils behind lids, or a dark wall that a moving camera leaves."""
    own = haired(canvas(0.0))
    own.pixels[hidden] = 200
    made, _ = laid(own.pixels, own.landmarks, haired(canvas(0.1)))
    assert made[SIZE // 2 :, SIZE // 2].min() == 0


def test_mouths_come_from_frames_where_the_face_is_seen() -> None:
    marks = np.stack([face(0.01 * (i % 5)) for i in range(20)])
    score = np.where(np.arange(20) < 12, 1.0, 0.1).astype(np.float32)
    assert choose_mouths(marks, SIZE, score).tolist() == list(range(12))
    assert len(choose_mouths(np.stack([face()] * 400), SIZE, np.zeros(400, np.float32))) == 48


def test_the_nearest_mouth_is_lent() -> None:
    lender = Lender(mouths(), SPREAD)
    first, *_, last = lender.choose(window(), lips(0.0, 0.0, 0.19, 0.21))
    assert (first, last) == (0, 3)


def test_what_was_chosen_for_a_frame_stays() -> None:
    lender = Lender(mouths(), SPREAD)
    first = lender.choose(window(0), lips(0.0, 0.0, 0.2, 0.2))
    again = lender.choose(window(2), lips(0.0, 0.0, 0.2, 0.2))
    assert again[:2] == first[2:]


def test_a_mouth_of_another_pose_is_not_lent() -> None:
    near, far = mouths(), mouths(0.2)
    both = Mouths(*(np.concatenate([getattr(m, n) for m in (far, near)]) for n in ("pixels", "landmarks", "lips")))
    assert min(Lender(both, SPREAD).choose(window(), lips(0.0, 0.05, 0.1, 0.2))) >= len(OPENINGS)


def test_a_turned_head_has_a_mouth_of_its_own_pose() -> None:
    """Two thirds of the mouths are of the straight head: those of the turned one are not crooked for lying elsewhere."""
    straight, turned = mouths(), mouths(0.1)
    every = [
        np.concatenate([getattr(m, n) for m in (straight, straight, turned)]) for n in ("pixels", "landmarks", "lips")
    ]
    aside = replace(window(), landmarks=window().landmarks + np.float32(0.1 * SIZE))
    lender = Lender(Mouths(*every), np.full(6, 0.05, np.float32))
    assert min(lender.choose(aside, lips(0.0, 0.05, 0.1, 0.2))) >= 2 * len(OPENINGS)


def test_lips_that_stay_apart_when_pressed_are_not_lent_to_shut_ones() -> None:
    """The first mouths are the more closed ones by their landmarks, but their teeth stay in sight."""
    gaping, shut = mouths(), mouths()
    every = [np.concatenate([getattr(m, n) for m in (gaping, shut)]) for n in ("pixels", "landmarks", "lips")]
    seen = np.repeat(np.array([0.03, 0.005], np.float32), len(OPENINGS))
    lender = Lender(Mouths(*every, shut=seen), np.full(6, 0.05, np.float32))
    assert min(lender.choose(window(), lips(0.0, 0.0, 0.0, 0.0))) >= len(OPENINGS)
    assert lender.choose(window(10), lips(0.05, 0.05, 0.05, 0.05)) == [1] * 4, "it does not matter to parted lips"


def test_what_lies_beside_a_face_is_not_lent() -> None:
    """The reference's right cheek ends where the film's face goes on; beside it all is white."""
    marks = face()
    near = (marks[:, 0] > 0.5 * SIZE) & (marks[:, 1] > 0.3 * SIZE)
    marks[near, 0] = (0.5 + 0.6 * (marks[near, 0] / SIZE - 0.5)) * SIZE
    pixels = np.full((SIZE, SIZE, 3), 120, np.uint8)
    pixels[:, int(marks[near, 0].max()) + 3 :] = 255
    own = np.full((1, SIZE, SIZE, 3), 100, np.uint8)
    made = neutralised(own, face()[None], Reference(pixels, marks))
    assert np.abs(made.astype(int) - 100).max() <= 1, (
        "white cheeks, or a face darkened since white was matched with skin"
    )


def test_a_mouth_from_a_faded_frame_is_not_lent() -> None:
    """The first mouths are as asked, but white all over, as where a film fades in."""
    faded, own = mouths(), mouths()
    white = Mouths(np.full_like(faded.pixels, 250), faded.landmarks, faded.lips)
    both = Mouths(*(np.concatenate([getattr(m, n) for m in (white, own)]) for n in ("pixels", "landmarks", "lips")))
    assert min(Lender(both, SPREAD).choose(window(), lips(0.0, 0.05, 0.1, 0.2))) >= len(OPENINGS)


def test_openings_that_the_mouths_do_not_bear_are_less_wide_and_keep_their_order() -> None:
    asked = np.array([-0.01, *OPENINGS], np.float32)
    assert np.array_equal(Lender(mouths(), SPREAD).borne(asked), asked)
    hardly = Lender(replace(mouths(), lips=lips(0.0, 0.005, 0.01, 0.02)), SPREAD)
    made = hardly.borne(np.linspace(0, 0.2, 41, dtype=np.float32))
    assert made[14] == pytest.approx(SPOKEN) and (np.diff(made) > 0).all()  # .07 is borne by any mouth
    assert SPOKEN + 0.9 * BEYOND < made[-1] < SPOKEN + BEYOND


def test_reach_is_what_the_widest_mouth_can_show() -> None:
    lender = Lender(mouths(), SPREAD)
    assert lender.reach(np.array([0.0, 0.1, 0.3])) == pytest.approx(1)
    assert lender.reach(np.array([0.64])) == pytest.approx(0.5)
    assert lender.reach(np.zeros(3)) == 1, "any mouth can be shut"


def test_the_cheapest_path_is_the_cheapest_of_all() -> None:
    rng = np.random.default_rng(0)
    cost, change = rng.random((5, 3)), rng.random((3, 3))

    def price(path: tuple[int, ...]) -> float:
        return sum(cost[t, k] for t, k in enumerate(path)) + sum(
            change[a, b] for a, b in itertools.pairwise((1, *path))
        )

    assert tuple(cheapest_path(cost, change, 1)) == min(itertools.product(range(3), repeat=5), key=price)


def striped(reference: Reference, times: int = 1) -> Pixels:
    """Return the canvas, so many times enlarged, with stripes of one pixel."""
    pixels = np.kron(reference.pixels, np.ones((times, times, 1), np.uint8)).astype(np.int16)
    pixels[::2] += 20
    return np.asarray(np.clip(pixels, 0, 255), np.uint8)


@pytest.mark.parametrize("times", [1, 2])
def test_painted_lips_take_on_the_texture_of_lent_ones_they_are_like(times: int) -> None:
    """And of no others; beside the lips nothing changes, and stripes finer than the canvas arrive."""
    given = [canvas(opening) for opening in OPENINGS]
    fine = np.stack([striped(r, times) for r in given])
    pixels = np.stack([cv2.resize(f, (SIZE, SIZE), interpolation=cv2.INTER_AREA) for f in fine])
    lender = Lender(Mouths(pixels, mouths().landmarks, mouths().lips, fine), SPREAD)
    asked = lips(*[PRESSED / 2] * 4)  # just shut
    at = replace(window(), landmarks=np.stack([given[0].landmarks] * 4))
    lent = lender.lent(at, asked)
    smooth = np.full_like(at.pixels, 150)
    made = lender.textured(smooth, lent)
    assert made.shape == (4, times * SIZE, times * SIZE, 3)
    lip = slice(round(0.53 * times * SIZE), round(0.58 * times * SIZE))
    middle = slice(round(0.45 * times * SIZE), round(0.55 * times * SIZE))
    assert np.ptp(made[0, lip, middle]) >= 10
    assert (made[:, : times * SIZE // 3] == 150).all()
    assert np.ptp(lender.textured(smooth, lent, amount=0.0)) == 0
    far = lender.textured(np.full_like(smooth, 60), lent)
    assert np.ptp(far[0, lip, middle]) <= 1


def test_lips_pressed_together_take_on_what_the_canvas_cannot_hold_and_no_more() -> None:
    """Of stripes of one pixel of a canvas twice as large, and of eight; of none where the canvas is not enlarged."""
    at = replace(window(), landmarks=np.stack([canvas(0.0).landmarks] * 4))
    taken = {}
    for times, wide in ((2, 1), (2, 8), (1, 1)):
        size = times * SIZE
        lip, middle = slice(round(0.53 * size), round(0.58 * size)), slice(round(0.45 * size), round(0.55 * size))
        fine = np.kron(mouths().pixels, np.ones((1, times, times, 1), np.uint8)).astype(np.int16)
        fine[:, :, np.arange(size) // wide % 2 == 0] += 20
        fine = np.clip(fine, 0, 255).astype(np.uint8)
        lender = Lender(replace(mouths(), fine=fine), SPREAD)
        pressed = lender.lent(at, lips(0.0, 0.0, 0.0, 0.0))
        assert pressed.openings == pytest.approx(-PRESSED)
        for lent in (pressed, replace(pressed, openings=np.zeros(4, np.float32))):
            made = lender.textured(np.full_like(at.pixels, 150), lent)[0, lip, middle].astype(int)
            taken[times, wide, float(lent.openings[0]) < 0] = made.std(axis=1).mean()
    assert taken[2, 1, True] > 0.7 * taken[2, 1, False] > 3
    assert taken[2, 8, True] < 0.6 * taken[2, 8, False]
    assert taken[1, 1, True] == 0 and taken[1, 1, False] > 3


def test_a_mouth_pulled_aside_is_not_lent() -> None:
    """One mouth of four is as asked but lies a tenth of the canvas to the left, as in a grimace."""
    given = mouths()
    pulled = given.landmarks.copy()
    pulled[2, [61, 291], 0] -= 0.1 * SIZE
    asked = lips(*[OPENINGS[2]] * 4)
    assert set(Lender(given, SPREAD).choose(window(), asked)) == {2}
    assert 2 not in Lender(replace(given, landmarks=pulled), np.full(6, 0.05, np.float32)).choose(window(), asked)
