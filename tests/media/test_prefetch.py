from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from unisync.media import prefetch


def test_order_is_kept() -> None:
    assert list(prefetch(iter(range(100)), 3)) == list(range(100))


def test_an_error_arrives_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyError("third")

    ahead = prefetch(items(), 8)
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(KeyError, match="third"):
        next(ahead)


def test_no_more_than_depth_items_are_made_ahead() -> None:
    made: list[int] = []
    third = threading.Event()

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            if number == 3:
                third.set()
            yield number

    ahead = prefetch(items(), 3)
    assert next(ahead) == 0
    assert third.wait(10), "the thread makes one more for the one taken"
    assert len(made) <= 4
    ahead.close()  # type: ignore[attr-defined]
    assert len(made) <= 5


def test_closing_joins_the_thread_and_closes_the_source() -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    before = threading.active_count()
    ahead = prefetch(items(), 2)
    next(ahead)
    ahead.close()  # type: ignore[attr-defined]
    assert closed.is_set()
    assert threading.active_count() == before


def test_the_source_is_made_in_another_thread() -> None:
    names = list(prefetch((threading.current_thread().name for _ in range(2)), 1))
    assert set(names) == {"prefetch"}


def test_depth_must_be_positive() -> None:
    with pytest.raises(ValueError, match="depth"):
        prefetch([1], 0)
