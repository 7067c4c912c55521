"""LoRA files: small changes to a network's weights (arXiv 2106.09685), added once when they are loaded.

Tensors are named as peft names them, `base_model.model.MODULE.lora_A.weight` and `lora_B`; the metadata say which of a
backbone's networks they are for, and peft's own configuration.
"""

from __future__ import annotations

from math import prod
from pathlib import Path

import torch
from torch import Tensor, nn

from unisync.errors import WeightsError
from unisync.nets.wan.lora_files import Delta, deltas
from unisync.nets.weights import read_weights

KIND = "lora"
PREFIX = "base_model.model."


@torch.no_grad()
def merge_lora(networks: dict[str, nn.Module], path: Path, scale: float) -> None:
    """Add `scale` times a LoRA file's change to the network it is for; 0 changes no bit. Raises WeightsError."""
    tensors, spec = read_weights(path)
    if spec.get("kind") != KIND or spec.get("part") not in networks:
        raise WeightsError(f"{path}: is no LoRA file for {', '.join(networks)}; 'unisync train' with [lora] writes one")
    add_changes(networks[spec["part"]], deltas(tensors, spec["lora"], path), path, scale)


@torch.no_grad()
def add_changes(network: nn.Module, changes: dict[str, Delta], path: Path, scale: float = 1.0) -> None:
    """Add `scale` times changes by modules' names to a network's weights; 0 changes no bit. Raises WeightsError."""
    weights = network.state_dict()
    for module, delta in changes.items():
        weight = weights.get(f"{module}.weight")
        if (
            weight is None
            or delta.shape is None
            or (delta.shape[0], prod(delta.shape)) != (len(weight), weight.numel())
        ):
            raise WeightsError(f"{path}: its '{module}' does not fit these weights; it was made for others")
    if scale:
        for module, delta in changes.items():
            weight = network.get_submodule(module).weight
            assert isinstance(weight, Tensor)
            weight += scale * delta.weight().view_as(weight).to(weight.device)


def parse_lora(text: str) -> tuple[Path, float]:
    """Return file and scale of "FILE:scale" or "FILE", whose scale is 1."""
    name, colon, number = text.rpartition(":")
    try:
        return (Path(name), float(number)) if colon else (Path(text), 1.0)
    except ValueError:
        return Path(text), 1.0
