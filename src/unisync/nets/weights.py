"""Weights files: safetensors whose metadata say what they are, so that nothing is guessed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from unisync.errors import WeightsError
from unisync.whole import whole

KEY = "unisync"


def save_weights(path: Path, parts: dict[str, nn.Module], spec: dict[str, Any]) -> None:
    """Write the modules' weights as bfloat16 (buffers as float32) under their part's name, and `spec` as metadata."""
    tensors: dict[str, Tensor] = {}
    for name, module in parts.items():
        tensors |= {f"{name}.{k}": v.detach().to(torch.bfloat16).contiguous() for k, v in module.named_parameters()}
        tensors |= {f"{name}.{k}": v.detach().float().contiguous() for k, v in module.named_buffers()}
    write_tensors(path, tensors, spec)


def write_tensors(path: Path, tensors: dict[str, Tensor], spec: dict[str, Any]) -> None:
    """Write tensors as they are, and what they are in the metadata."""
    with whole(path) as part:
        save_file(tensors, part, metadata={KEY: json.dumps(spec)})


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors (float32) and the spec. Raises WeightsError if the file is missing, damaged or not ours."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    try:
        with safe_open(path, framework="pt") as file:
            spec = (file.metadata() or {}).get(KEY)
            if spec is None:
                raise WeightsError(f"{path}: these are not UniSync weights (no '{KEY}' in the metadata)")
            return {name: file.get_tensor(name).float() for name in file.keys()}, json.loads(spec)  # noqa: SIM118
    except (SafetensorError, json.JSONDecodeError) as error:
        raise WeightsError(f"{path}: the weights file is damaged ({error}); get it again") from error


def fill(module: nn.Module, tensors: dict[str, Tensor], part: str, path: Path) -> None:
    """Load the tensors of one part into a module. Raises WeightsError if names or shapes differ."""
    chosen = {name[len(part) + 1 :]: value for name, value in tensors.items() if name.startswith(f"{part}.")}
    try:
        module.load_state_dict(chosen)
    except RuntimeError as error:
        raise WeightsError(f"{path}: '{part}' does not fit its own spec: {error}") from error
