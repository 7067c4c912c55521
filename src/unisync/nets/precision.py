"""Which arithmetic networks are run in: bfloat16 where the device computes in it, float32 where it would only imitate it."""

from __future__ import annotations

import platform
from functools import cache
from typing import Literal

import torch

Precision = Literal["auto", "bf16", "fp32"]
"""auto: bfloat16 where the device computes in it, else float32."""


@cache
def computes_bf16(device: str) -> bool:
    """Return whether a type of device (cpu, cuda, mps) multiplies bfloat16 itself.

    Elsewhere PyTorch imitates it: a hundred times as slow as float32 on a processor that has AVX2 alone.
    """
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device == "cpu" and platform.machine().lower() in ("x86_64", "amd64"):
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if device == "cpu":
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return True


def autocast(device: torch.device | str, precision: Precision = "auto") -> torch.autocast:
    """Return the context in which networks run on a device."""
    kind = torch.device(device).type
    half = computes_bf16(kind) if precision == "auto" else precision == "bf16"
    return torch.autocast(kind, torch.bfloat16, enabled=half)
