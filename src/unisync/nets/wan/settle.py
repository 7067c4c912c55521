"""A filled network laid on a device as it was planned and chosen."""

from __future__ import annotations

import torch

from unisync.nets.kernels import choose_attention, compile_blocks
from unisync.nets.step_cache import StepCache
from unisync.nets.storage import store_fp8
from unisync.nets.swap import swap_blocks
from unisync.nets.transformer import Transformer
from unisync.nets.wan.memory import Plan
from unisync.options import DubOptions


def settle(net: Transformer, plan: Plan, device: torch.device | str, options: DubOptions) -> None:
    """Move a network from the host's memory to a device, blocks swapped and matrices stored as planned.

    LoRA must be merged before.  options: attention, compile and step_cache are read.
    Raises OptionError if a kernel is not there.
    """
    if plan.storage == "fp8":
        store_fp8(net)
    swap_blocks(net, plan.swapped, device, plan.prefetch)
    if options.attention is not None:
        choose_attention(net, options.attention, device)
    if options.compile:
        compile_blocks(net)
    if options.step_cache:
        StepCache(net, options.step_cache)
