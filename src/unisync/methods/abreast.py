"""Windows side by side: small products that are split over cores wait for the slowest at each step, whole windows do not."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

MOST = 4
"""Items worked on at once: each takes memory of its own, and more cores share one item's products well enough."""

Item = TypeVar("Item")
Made = TypeVar("Made")


def abreast(work: Callable[[Item], Made], items: Iterable[Item], device: torch.device) -> Iterator[tuple[Item, Made]]:
    """Yield each item, in order, with what work made of it, while the next ones are worked on.

    On a CPU torch's threads are shared out among the items at work, elsewhere there is one at a time. `items` is read
    in the caller's thread. An exception that work raised is raised here, in its item's turn.
    """
    threads = torch.get_num_threads()
    workers = min(threads, MOST) if device.type == "cpu" else 1
    pool = ThreadPoolExecutor(workers, "abreast", torch.set_num_threads, (threads // workers,))
    due: deque[tuple[Item, Future[Made]]] = deque()
    try:
        for item in items:
            due.append((item, pool.submit(work, item)))
            if len(due) > workers:
                item, made = due.popleft()
                yield item, made.result()
        while due:
            item, made = due.popleft()
            yield item, made.result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # each worker set them for the threads that are born later, too
