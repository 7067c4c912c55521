"""Reads ahead in one thread, a bounded number of items; the only threading primitive of the house."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")


def prefetch(items: Iterable[Item], depth: int = 4) -> Iterator[Item]:
    """Yield the items in order while up to `depth` of them are made ahead in a thread.

    The thread starts with the first item asked for and is joined when the iterator ends or is closed; `items` is
    closed there too. An exception raised by `items` is raised here, after the items that came before it.
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1, not {depth}")
    return _prefetch(items, depth)


def _prefetch(items: Iterable[Item], depth: int) -> Iterator[Item]:
    ready: SimpleQueue[tuple[bool, Item | BaseException | None]] = SimpleQueue()
    room = threading.Semaphore(depth)
    closed = threading.Event()

    def work() -> None:
        error: BaseException | None = None
        source: Iterator[Item] | None = None
        try:
            source = iter(items)
            while room.acquire() and not closed.is_set():
                ready.put((True, next(source)))
        except StopIteration:
            pass
        except BaseException as raised:
            error = raised
        try:
            close = getattr(source, "close", None)
            if close is not None:
                close()
        except BaseException as raised:
            error = error or raised
        ready.put((False, error))

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            more, item = ready.get()
            if not more:
                if isinstance(item, BaseException):
                    raise item
                return
            room.release()
            yield item  # type: ignore[misc]  # only items come with True
            del item  # a frame must not live until the next one is asked for
    finally:
        closed.set()
        room.release()
        thread.join()
