from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from unisync.media import cut, drawn, extend

FILM = replace(drawn("x", 64, 48, 25, 4), ticks=(0, 10, 30, 60), last=20, time_base=Fraction(1, 100))


def test_loop_starts_over_after_the_last_frame_has_had_its_time() -> None:
    longer = extend(FILM, 2, "loop")
    assert longer.source == (0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2)
    assert longer.ticks == (0, 10, 30, 60, 80, 90, 110, 140, 160, 170, 190)


def test_bounce_mirrors_the_times_and_shows_turning_points_once() -> None:
    longer = extend(FILM, Fraction(19, 10), "bounce")
    assert longer.source == (0, 1, 2, 3, 2, 1, 0, 1, 2, 3)
    assert longer.ticks == (0, 10, 30, 60, 90, 110, 120, 130, 150, 180)


def test_hold_keeps_the_last_frame_at_the_average_rate() -> None:
    longer = extend(FILM, Fraction(13, 10), "hold")
    assert longer.source == (0, 1, 2, 3, 3, 3, 3)
    assert longer.ticks == (0, 10, 30, 60, 80, 100, 120)


def test_a_long_enough_film_stays_itself() -> None:
    assert extend(FILM, FILM.duration, "loop") is FILM


@pytest.mark.parametrize("how", ["loop", "bounce", "hold"])
def test_extended_is_long_enough_by_less_than_a_frame(how: str) -> None:
    for seconds in (Fraction(81, 100), Fraction(3), 7.77):
        longer = extend(FILM, seconds, how)  # type: ignore[arg-type]
        assert longer.seconds[-1] < seconds <= longer.duration + Fraction(1, 10)
        assert list(longer.ticks) == sorted(set(longer.ticks))


def test_cut_drops_frames_that_start_at_or_after_the_end() -> None:
    assert cut(FILM, Fraction(3, 10)).ticks == (0, 10)
    assert cut(FILM, 0.31).ticks == (0, 10, 30)
    assert cut(FILM, 0).ticks == (0,)
    assert cut(FILM, 9) is FILM
    assert cut(FILM, 0.31).duration == Fraction(6, 10)


@pytest.mark.parametrize("num", [19, 20, 21, 70])
def test_seconds_as_floats_are_meant_to_the_microsecond(num: int) -> None:
    """Many a float lies a hair above the moment at which a frame starts."""
    film = drawn("x", 16, 16, 25, 100)
    assert len(cut(film, num / 25)) == num
    assert len(extend(cut(film, 0.04), num / 25, "hold")) == num


def test_an_extended_film_can_be_cut_and_extended_again() -> None:
    again = extend(cut(extend(FILM, 2, "loop"), 1), 3, "loop")
    assert again.source is not None
    assert again.source[:7] == (0, 1, 2, 3, 0, 1, 0)


def test_unknown_ways_are_refused() -> None:
    with pytest.raises(ValueError, match="loop, bounce or hold"):
        extend(FILM, 9, "again")  # type: ignore[arg-type]
