"""Which kernel a transformer's self-attention runs on, and whether its blocks are compiled."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from unisync.errors import OptionError
from unisync.nets.attention import Attend, Attention
from unisync.options import AttentionKernel

BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}


def choose_attention(net: nn.Module, kernel: AttentionKernel, device: torch.device | str) -> None:
    """Let the self-attention of a transformer's blocks run on a kernel. Raises OptionError if the device has it not."""
    own = self_attentions(net)
    first = own[0]
    bias = first.o.bias
    assert bias is not None
    attend = _attend_of(kernel)
    probe = torch.zeros(1, first.heads, 16, len(bias) // first.heads, device=device, dtype=bias.dtype)
    try:
        attend(probe, probe, probe)
    except (RuntimeError, ValueError) as error:
        where = f"on {probe.device.type} in {str(probe.dtype).removeprefix('torch.')}"
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise OptionError(f"attention {kernel} does not run {where} ({why}); leave it to PyTorch") from error
    for attention in own:
        attention.attend = attend


def self_attentions(net: nn.Module) -> list[Attention]:
    """Return the self-attention of each of a transformer's blocks."""
    found = [block.get_submodule("self_attn") for block in net.get_submodule("blocks").children()]
    return [attention for attention in found if isinstance(attention, Attention)]


def compile_blocks(net: nn.Module, backend: str = "inductor") -> None:
    """Let torch compile each block when it is first run; all share one compiled form, and hooks stay outside it."""
    for block in net.get_submodule("blocks").children():
        block.forward = torch.compile(block.forward, backend=backend)


def _attend_of(kernel: AttentionKernel) -> Attend:
    if kernel == "flash-attn":
        return _flash_attn()
    backend = BACKENDS[kernel]

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(q, k, v)

    return attend


def _flash_attn() -> Attend:
    try:
        from flash_attn import flash_attn_func
    except ImportError as error:
        raise OptionError("attention flash-attn needs the flash-attn package: pip install flash-attn") from error

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out: Any = flash_attn_func(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        answers: Tensor = out.transpose(1, 2)
        return answers

    return attend
