"""Windows are worked on side by side and come back in order, whatever happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from unisync.methods.abreast import MOST, abreast

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def threads() -> Iterator[int]:
    """Give torch two threads, whatever the tests run with."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield 2
    torch.set_num_threads(before)


def test_items_come_back_in_order_however_long_each_takes() -> None:
    def late(item: int) -> int:
        time.sleep(0.02 * (item % 3 == 0))
        return item * item

    assert list(abreast(late, range(12), CPU)) == [(item, item * item) for item in range(12)]


def test_two_are_worked_on_at_once_each_with_a_share_of_the_threads(threads: int) -> None:
    both = threading.Barrier(2, timeout=10)  # one alone would wait in vain

    def work(item: int) -> int:
        both.wait()
        return torch.get_num_threads()

    assert [found for _, found in abreast(work, range(4), CPU)] == [1] * 4
    assert torch.get_num_threads() == threads
    found: list[int] = []
    born = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    born.start()
    born.join()
    assert found == [threads]


def test_on_other_devices_there_is_one_at_a_time() -> None:
    at_work = []

    def work(item: int) -> int:
        at_work.append(item)
        time.sleep(0.01)
        return at_work.pop() if len(at_work) == 1 else -1

    assert list(abreast(work, range(5), torch.device("meta"))) == [(item, item) for item in range(5)]


def test_few_items_are_read_ahead() -> None:
    read: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            read.append(item)
            yield item

    ahead = abreast(abs, items(), CPU)
    next(ahead)
    assert len(read) <= MOST + 1
    ahead.close()
    assert len(read) <= MOST + 1


def test_an_error_is_raised_in_its_items_turn() -> None:
    def work(item: int) -> int:
        return 1 // (2 - item)

    ahead = abreast(work, range(9), CPU)
    assert [next(ahead), next(ahead)] == [(0, 0), (1, 1)]
    with pytest.raises(ZeroDivisionError):
        next(ahead)
    assert list(ahead) == []
