"""Swapped blocks give bit for bit what they give where they are, and no more of them lie on the device than were planned."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from small_wan import network, painted
from unisync.nets.count import weight_bytes
from unisync.nets.step_cache import StepCache
from unisync.nets.storage import Fp8Linear, store_fp8
from unisync.nets.swap import BlockSwap, swap_blocks
from unisync.nets.wan.memory import Work, plan_memory
from unisync.nets.wan.settle import settle
from unisync.options import DubOptions

LAYERS = 5


@pytest.mark.parametrize(
    ("num", "prefetch", "half"), [(0, 1, False), (1, 0, False), (3, 1, False), (3, 2, True), (LAYERS, 1, True)]
)
def test_the_same_bits_come_out(num: int, prefetch: int, half: bool) -> None:
    net = network(layers=LAYERS)
    if half:
        store_fp8(net)
    before = [painted(net, seed) for seed in (1, 2)]
    state = {name: value.clone() for name, value in net.state_dict().items()}
    swap_blocks(net, num, "cpu", prefetch)
    assert all(torch.equal(painted(net, seed), each) for seed, each in zip((1, 2), before, strict=True))
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert before[0].abs().max() > 0.01 and not torch.equal(*before)


def test_the_device_holds_as_many_blocks_as_are_used_and_under_way() -> None:
    net = network(layers=LAYERS)
    swap = BlockSwap(net.blocks, 4, torch.device("cpu"), prefetch=1)
    assert swap.order == [0, 1, 2, 3] or sorted(set(swap.order)) == swap.order
    rows = {slot.row.untyped_storage().data_ptr(): slot.row.nbytes for slot in swap._slots}
    size = weight_bytes(net.blocks[0])
    assert len(rows) == 2 and all(size <= row <= 1.02 * size for row in rows.values())
    lain: list[bool] = []

    def look(block: nn.Module, args: tuple[object, ...]) -> None:
        here = [value.untyped_storage().data_ptr() in rows for value in block.parameters()]
        assert all(here) or not any(here)
        lain.append(all(here))

    for block in net.blocks:
        block.register_forward_pre_hook(look)
    painted(net)
    assert [index for index, here in enumerate(lain) if here] == swap.order
    assert not any(value.untyped_storage().data_ptr() in rows for block in net.blocks for value in block.parameters())


def test_the_next_block_is_on_its_way_while_one_is_computed() -> None:
    net = network(layers=LAYERS)
    swap = BlockSwap(net.blocks, 4, torch.device("cpu"), prefetch=1)
    held: list[set[int | None]] = []
    for at, index in enumerate(swap.order):
        net.blocks[index].register_forward_hook(lambda *_, at=at: held.append({at, *(s.holds for s in swap._slots)}))
    painted(net)
    assert held == [{0, 1}, {1, 2}, {2, 3}, {3, 0}]


def test_a_forward_that_breaks_off_does_no_harm() -> None:
    net = network(layers=LAYERS)
    before = painted(net)
    swap_blocks(net, 3, "cpu")

    def stop(*_: object) -> None:
        raise RuntimeError("stop")

    handle = net.blocks[2].register_forward_pre_hook(stop)
    with pytest.raises(RuntimeError, match="stop"):
        painted(net)
    handle.remove()
    assert torch.equal(painted(net), before)


def test_a_network_is_settled_as_planned() -> None:
    net = network(layers=LAYERS)
    before = painted(net)
    plan = replace(plan_memory(Work("wan2.1-t2v-1.3b", canvas=128, length=9)), swapped=2, storage="fp8")
    settle(net, plan, "cpu", DubOptions(backbone="wan", attention="flash", step_cache=0.1))
    hooked = [bool(block._forward_hooks) for block in net.blocks]
    assert sum(hooked) == 2 and isinstance(net.blocks[0].ffn[0], Fp8Linear)
    assert all(block.self_attn.attend.__module__ == "unisync.nets.kernels" for block in net.blocks)
    (cache,) = net.passages
    assert isinstance(cache, StepCache) and cache.threshold == 0.1
    error = ((painted(net) - before).norm() / before.norm()).item()
    assert 0 < error < 0.1
