"""The same answers from every kernel that is here, and a sentence about those that are not."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from small_wan import network, painted
from unisync.errors import OptionError
from unisync.nets.kernels import choose_attention, compile_blocks
from unisync.nets.swap import swap_blocks


def test_a_kernel_that_is_here_is_used() -> None:
    net = network()
    before = painted(net)
    choose_attention(net, "flash", "cpu")
    assert all(block.self_attn.attend.__module__ == "unisync.nets.kernels" for block in net.blocks)
    assert torch.equal(painted(net), before)


def test_one_that_is_not_is_refused_with_a_sentence() -> None:
    net = network()
    with pytest.raises(OptionError, match="attention cudnn does not run on cpu in float32"):
        choose_attention(net, "cudnn", "cpu")
    with pytest.raises(OptionError, match="pip install flash-attn"):
        choose_attention(net, "flash-attn", "cpu")
    assert all(block.self_attn.attend.__module__ == "unisync.nets.attention" for block in net.blocks)


def test_flash_attns_own_layout_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def flash_attn_func(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """As the package has it: (B, N, heads, d)."""
        return F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)

    net = network()
    before = painted(net)
    monkeypatch.setitem(sys.modules, "flash_attn", SimpleNamespace(flash_attn_func=flash_attn_func))  # type: ignore[arg-type]
    choose_attention(net, "flash-attn", "cpu")
    assert torch.equal(painted(net), before)


def test_compiled_blocks_give_the_same_and_can_be_swapped() -> None:
    torch._dynamo.reset()
    net = network(layers=4)
    before = painted(net)
    swap_blocks(net, 2, "cpu")
    compile_blocks(net, backend="eager")
    assert torch.equal(painted(net), before) and torch.equal(painted(net), before)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2  # one for blocks that stay, one for the others
