"""Windows cover every frame, and stitching gives each back once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unisync.methods.base import Spec
from unisync.methods.windows import Canvas, stitch, windows
from unisync.types import NUM_LANDMARKS, Sound

SILENCE = Sound(np.zeros(16000, np.float32), 16000)


def canvases(num: int, start: int = 0) -> list[Canvas]:
    marks = np.zeros((NUM_LANDMARKS, 2), np.float32)
    return [Canvas(start + i, np.full((4, 4, 3), i % 251, np.uint8), (start + i) / 30, marks) for i in range(num)]


@given(num=st.integers(1, 60), length=st.integers(2, 12), overlap=st.integers(0, 11), start=st.integers(0, 100))
def test_echo_through_windows_and_stitch_is_the_identity(num: int, length: int, overlap: int, start: int) -> None:
    spec = Spec(4, length, min(overlap, length - 1))
    cut = list(windows(iter(canvases(num, start)), spec, SILENCE, None))
    assert all(len(w) == length for w in cut)
    for a, b in zip(cut, cut[1:], strict=False):
        assert a.start + length - b.start >= spec.overlap
    assert cut[-1].start + length == start + max(num, length)
    out = list(stitch(((w.start, w.pixels) for w in cut), spec.overlap, start + num))
    assert [index for index, _ in out] == list(range(start, start + num))
    for i, (_, pixels) in enumerate(out):
        assert (pixels == i % 251).all()


def test_joins_are_cross_faded() -> None:
    one, two = np.zeros((6, 2, 2, 3), np.uint8), np.full((6, 2, 2, 3), 100, np.uint8)
    out = dict(stitch(iter([(0, one), (3, two)]), 3, 9))
    assert [int(out[i][0, 0, 0]) for i in range(9)] == [0, 0, 0, 25, 50, 75, 100, 100, 100]


def test_a_gap_is_an_error() -> None:
    take = np.zeros((2, 2, 2, 3), np.uint8)
    with pytest.raises(ValueError, match="painted by no window"):
        list(stitch(iter([(0, take), (3, take)]), 1, 5))


def test_short_tracks_go_back_and_forth_with_rising_times() -> None:
    (window,) = windows(iter(canvases(3)), Spec(4, 8, 2), SILENCE, None)
    assert window.pixels[:, 0, 0, 0].tolist() == [0, 1, 2, 1, 0, 1, 2, 1]
    assert (np.diff(window.seconds) > 0).all()


def test_windows_are_cut_as_the_stream_comes() -> None:
    taken = 0

    def stream():  # type: ignore[no-untyped-def]
        nonlocal taken
        for canvas in canvases(1000):
            taken += 1
            yield canvas

    next(windows(stream(), Spec(4, 8, 2), SILENCE, None))
    assert taken == 8


@pytest.mark.parametrize(("length", "overlap"), [(4, 4), (4, -1)])
def test_spec_refuses_nonsense(length: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="overlap"):
        Spec(4, length, overlap)
