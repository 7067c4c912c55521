from __future__ import annotations

import numpy as np
import pytest

from clips import CLIPS, needs_clips
from faces import frames, lay, portrait
from films import draw_face
from unisync.face.shots import _change, _look, mark_cuts
from unisync.media.probe import probe
from unisync.media.reader import read_frames
from unisync.types import Pixels


def found(pictures: list[Pixels]) -> list[int]:
    marked = list(mark_cuts(frames(pictures)))
    assert [frame.index for frame, _ in marked] == list(range(len(pictures)))
    return [frame.index for frame, cut in marked if cut]


def one() -> list[Pixels]:
    return [draw_face(320, 240, abs(np.sin(i / 4))) for i in range(12)]


def other() -> list[Pixels]:
    return [lay([(200 + 3 * i, 180, 1.2)]) for i in range(12)]


def test_a_cut_is_found_at_its_frame() -> None:
    assert found(one() + other()) == [12]
    assert found(one() + other() + one()) == [12, 24]


def test_pictures_alike_but_for_their_brightness_differ_by_a_number() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):  # the product of equal edges with themselves is rounded to either side of 1
        dark = rng.integers(0, 200, (90, 160, 3), np.uint8)
        assert 0 <= _change(_look(dark), _look(dark + np.uint8(1))) < 0.01


@pytest.mark.parametrize("length", [1, 2])
def test_a_flash_is_not_a_cut(length: int) -> None:
    pictures = one() + one()
    for i in range(6, 6 + length):
        pictures[i] = np.full_like(pictures[i], 255)
    pictures[18] = np.clip(pictures[18].astype(int) * 2, 0, 255).astype(np.uint8)
    pictures[0] = np.full_like(pictures[0], 255)
    assert found(pictures) == []


def test_a_flash_does_not_hide_a_cut() -> None:
    pictures = one() + other()
    pictures[8] = np.full_like(pictures[8], 255)
    assert found(pictures) == [12]


def test_a_pan_and_a_light_switched_off_are_not_cuts() -> None:
    wide = np.hstack([portrait(), portrait()[:, ::-1]])
    assert found([wide[:300, 40 * i : 40 * i + 400] for i in range(14)]) == []
    dark = [(p * 0.5).astype(np.uint8) for p in other()]
    assert found(other()[:6] + dark[6:]) == []


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_short_films(length: int) -> None:
    assert found(one()[:length]) == []


def test_a_short_shot_at_the_end_is_still_a_shot() -> None:
    assert found(one() + other()[:1]) == [12]


@needs_clips
def test_cuts_of_a_real_film() -> None:
    assert CLIPS is not None
    film = probe(CLIPS / "several-people-cuts-vertical.mp4")
    marked = [frame.index for frame, cut in mark_cuts(read_frames(film, 0, 600)) if cut]
    assert marked == [74, 258, 358, 493, 542, 577]
