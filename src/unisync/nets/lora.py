"""LoRA files: small changes to a network's weights (arXiv 2106.09685), added once when they are loaded.

Tensors are named as peft names them, `base_model.model.MODULE.lora_A.weight` and `lora_B`; the metadata say which of a
backbone's networks they are for, and peft's own configuration.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from unisync.errors import WeightsError
from unisync.nets.weights import read_weights

KIND = "lora"
PREFIX, DOWN, UP = "base_model.model.", ".lora_A.weight", ".lora_B.weight"


@torch.no_grad()
def merge_lora(networks: dict[str, nn.Module], path: Path, scale: float) -> None:
    """Add `scale` times a LoRA file's change to the network it is for; 0 changes no bit. Raises WeightsError."""
    tensors, spec = read_weights(path)
    if spec.get("kind") != KIND or spec.get("part") not in networks:
        raise WeightsError(f"{path}: is no LoRA file for {', '.join(networks)}; 'unisync train' with [lora] writes one")
    config = spec["lora"]
    network = networks[spec["part"]]
    change = {}
    for name, down in tensors.items():
        if not name.endswith(DOWN):
            continue
        module = name.removeprefix(PREFIX).removesuffix(DOWN)
        up = tensors.get(name.removesuffix(DOWN) + UP)
        weight = network.state_dict().get(f"{module}.weight")
        if up is None or weight is None or (len(up), down[0].numel()) != (len(weight), weight[0].numel()):
            raise WeightsError(f"{path}: its '{module}' does not fit these weights; it was made for others")
        change[module] = _product(up, down).view_as(weight) * (config["lora_alpha"] / config["r"])
    if not change:
        raise WeightsError(f"{path}: holds no LoRA tensors")
    if scale:
        for module, delta in change.items():
            weight = network.get_submodule(module).weight
            assert isinstance(weight, Tensor)
            weight += scale * delta.to(weight.device)


def parse_lora(text: str) -> tuple[Path, float]:
    """Return file and scale of "FILE:scale" or "FILE", whose scale is 1."""
    name, colon, number = text.rpartition(":")
    try:
        return (Path(name), float(number)) if colon else (Path(text), 1.0)
    except ValueError:
        return Path(text), 1.0


def _product(up: Tensor, down: Tensor) -> Tensor:
    """Return B A (out, in * kernel) of linear layers and convolutions alike."""
    return up.flatten(1) @ down.flatten(1)
