"""What a network costs, counted while its own forward runs: products, and the memory that lives at once.

On the meta device nothing is computed and nothing is allocated, so the largest network is counted in a second. Attention
is taken as a fused kernel has it: its scores never lie in memory.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

SCORE_BYTES = 4
"""A fused kernel keeps one float32 a query and head: the logarithm of its sum."""
EMPTY = (torch.ops.aten.empty, torch.ops.aten.empty_like, torch.ops.aten.new_empty)


@dataclass(frozen=True)
class Cost:
    """peak: bytes alive at once beyond weights and inputs.

    operations: how many there are of so many flops (two a multiplication with its addition) and so many bytes read and
    written, weights among them.
    """

    peak: int
    operations: Mapping[tuple[int, int], int]

    @property
    def flops(self) -> int:
        """Return what all operations multiply and add."""
        return sum(flops * num for (flops, _), num in self.operations.items())

    @property
    def moved(self) -> int:
        """Return the bytes that all operations read and write, each as if they came from memory."""
        return sum(size * num for (_, size), num in self.operations.items())

    def seconds(self, flops: float, bandwidth: float) -> float:
        """Return the least time on a device of so many flops and bytes a second: each operation is bound by one of them."""
        return sum(max(own / flops, size / bandwidth) * num for (own, size), num in self.operations.items())


def count(run: Callable[[], Any], given: Iterable[Tensor] = ()) -> Cost:
    """Return what `run` costs. given: weights and inputs, which are there anyhow."""
    tally = _Tally(given)
    with torch.no_grad(), _Fused(tally), tally:
        run()
    return Cost(tally.peak, dict(tally.operations))


def weight_bytes(module: nn.Module) -> int:
    """Return the bytes of a module's parameters and buffers."""
    return sum(value.nbytes for value in [*module.parameters(), *module.buffers()])


class _Tally(TorchDispatchMode):
    """Counts every operation's products and every storage's life."""

    def __init__(self, given: Iterable[Tensor]) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.operations: Counter[tuple[int, int]] = Counter()
        self._alive = {value.untyped_storage()._cdata for value in given}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        out = func(*args, **kwargs)
        made = [value for value in tree_leaves(out) if isinstance(value, Tensor)]
        products = flop_registry.get(func._overloadpacket)
        new = sum([self.note(value) for value in made])
        if (new or func._schema.is_mutable) and func._overloadpacket not in EMPTY:  # a view moves nothing
            read = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
            size = sum(value.numel() * value.element_size() for value in [*read, *made])
            self.operations[products(*args, **kwargs, out_val=out) if products else 0, size] += 1
        return out

    def note(self, value: Tensor) -> bool:
        """Return whether a tensor has memory of its own, new since the last call; it counts until that is freed."""
        storage = value.untyped_storage()
        if storage._cdata in self._alive:
            return False
        self._alive.add(storage._cdata)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, storage._cdata, storage.nbytes())
        return True

    def _free(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self.now -= size


class _Fused(TorchFunctionMode):
    """Takes attention as one operation, which the meta device would do in its parts."""

    def __init__(self, tally: _Tally) -> None:
        super().__init__()
        self._tally = tally

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        q, k, v = args[:3]
        out = torch.empty_like(q)
        torch.empty(q.shape[:-1].numel() * SCORE_BYTES, dtype=torch.uint8, device=q.device)
        size = sum(value.numel() * value.element_size() for value in (q, k, v, out))
        self._tally.operations[sdpa_flop_count(q.shape, k.shape, v.shape), size] += 1
        return out
