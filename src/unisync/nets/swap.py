"""Blocks that lie in the host's memory and come to the device just before they are needed, the next one meanwhile.

A block is one copy: its tensors lie in one row of bytes. The device keeps as many such rows as are used or under way at
once, so that its memory is known beforehand and no copy waits for the allocator.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

ALIGNED = 256
"""Bytes between the beginnings of tensors in a row are a multiple of this, as an allocator has them."""


class _Home(NamedTuple):
    """A block in the host's memory. places: each of its tensors and where it begins."""

    row: Tensor
    places: list[tuple[Tensor, int]]


class _Slot:
    """A row on the device. ready: the copy into it is done.  free: whoever computed with it is done."""

    def __init__(self, size: int, device: torch.device) -> None:
        self.row = torch.empty(size, dtype=torch.uint8, device=device)
        self.holds: int | None = None
        self.ready, self.free = (torch.cuda.Event() if device.type == "cuda" else None for _ in range(2))


class BlockSwap:
    """Swaps some blocks of a sequence that is run in order, again and again."""

    def __init__(self, blocks: nn.ModuleList, num: int, device: torch.device, prefetch: int = 1) -> None:
        """Let `num` blocks, evenly spread, lie in the host's memory, and hook into them. The others are left alone."""
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.order = [index * len(blocks) // num for index in range(num)]
        self._homes = [_home(blocks[index], pinned=self.stream is not None) for index in self.order]
        size = max(home.row.numel() for home in self._homes)
        self._slots = [_Slot(size, device) for _ in range(min(num, 1 + prefetch))]
        for at, index in enumerate(self.order):
            blocks[index].register_forward_pre_hook(self._enter(at))
            blocks[index].register_forward_hook(self._leave(at))

    def _enter(self, at: int) -> Any:
        def hook(block: nn.Module, args: Any) -> None:
            wanted = [(at + ahead) % len(self._homes) for ahead in range(len(self._slots))]
            for each in wanted:
                self._fetch(each, wanted)
            slot, home = self._slot(at), self._homes[at]
            if slot.ready is not None:
                torch.cuda.current_stream(self.device).wait_event(slot.ready)
            for tensor, begin in home.places:
                tensor.data = _part(slot.row, begin, tensor)

        return hook

    def _leave(self, at: int) -> Any:
        def hook(block: nn.Module, args: Any, out: Any) -> None:
            home = self._homes[at]
            for tensor, begin in home.places:
                tensor.data = _part(home.row, begin, tensor)
            if (free := self._slot(at).free) is not None:
                free.record(torch.cuda.current_stream(self.device))

        return hook

    def _slot(self, at: int) -> _Slot:
        return next(slot for slot in self._slots if slot.holds == at)

    def _fetch(self, at: int, wanted: list[int]) -> None:
        """Begin to copy a block to a slot that holds none of those wanted, unless it is there."""
        if any(slot.holds == at for slot in self._slots):
            return
        slot = next(slot for slot in self._slots if slot.holds not in wanted)
        slot.holds, home = at, self._homes[at]
        row = slot.row[: home.row.numel()]
        if self.stream is None or slot.free is None or slot.ready is None:
            row.copy_(home.row)
            return
        with torch.cuda.stream(self.stream):
            self.stream.wait_event(slot.free)  # the block that was there is computed
            row.copy_(home.row, non_blocking=True)
            slot.ready.record(self.stream)


def swap_blocks(net: nn.Module, num: int, device: torch.device | str, prefetch: int = 1) -> None:
    """Move a transformer to a device but for `num` of its blocks, which come to it when they are run."""
    device, blocks = torch.device(device), net.get_submodule("blocks")
    assert isinstance(blocks, nn.ModuleList)
    swapped = BlockSwap(blocks, num, device, prefetch).order if num else []
    away = {id(tensor) for index in swapped for tensor in [*blocks[index].parameters(), *blocks[index].buffers()]}
    for tensor in [*net.parameters(), *net.buffers()]:
        if id(tensor) not in away:
            tensor.data = tensor.data.to(device)


def _home(block: nn.Module, pinned: bool) -> _Home:
    """Move a block's tensors into one row of the host's memory."""
    tensors = [*block.parameters(), *block.buffers()]
    places, end = [], 0
    for tensor in tensors:
        places.append((tensor, end))
        end += -(-tensor.nbytes // ALIGNED) * ALIGNED
    row = torch.empty(end, dtype=torch.uint8, pin_memory=pinned)
    for tensor, begin in places:
        part = _part(row, begin, tensor)
        part.copy_(tensor.data)
        tensor.data = part
    return _Home(row, places)


def _part(row: Tensor, begin: int, like: Tensor) -> Tensor:
    """Return the tensor that begins there in a row of bytes."""
    return row[begin : begin + like.nbytes].view(like.dtype).view(like.shape)
