"""What training adds to a public model so that it edits a film: a LoRA, the source's channels (Eq 2), the pose encoder.

One file holds all three; peft's names for the LoRA, the network's own for what is trained in full.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unisync.errors import WeightsError
from unisync.nets.lora import PREFIX, add_changes
from unisync.nets.transformer import Transformer
from unisync.nets.wan.lora_files import deltas
from unisync.nets.weights import read_weights

KIND = "editing"
FULL = ("pose_encoder.", "cond_encoder.")
"""Parts trained in full: ours, or the model's own pose encoder."""
ADDED = "patch_embedding.added"
"""The patch embedding's weights for the source's channels, (D, C, 1, 2, 2)."""


def editing_family(path: Path) -> str:
    """Return the family that a file is for. Raises WeightsError if it is no file of this kind."""
    return str(_read(path)[1]["family"])


@torch.no_grad()
def apply_editing(net: Transformer, family: str, path: Path) -> None:
    """Let a family's editing network (`config_of(..., editing=True)`) be what a file trained. Raises WeightsError."""
    tensors, spec = _read(path)
    if spec["family"] != family:
        raise WeightsError(f"{path}: was trained for {spec['family']} and not for {family}; give it that model")
    state = net.state_dict()
    whole = {name: value for name, value in tensors.items() if name.startswith(FULL)}
    expected = {name for name in state if name.startswith(FULL)}
    weight = net.patch_embedding.weight
    added = tensors.get(ADDED)
    if expected != whole.keys() or added is None or added.shape[1] != net.config.channels or not net.config.editing:
        raise WeightsError(f"{path}: is not whole, or the network was not built for editing; get it again")
    for name, value in whole.items():
        state[name].copy_(value)
    weight[:, -net.config.channels :] = added.to(weight)
    add_changes(net, deltas({k: v for k, v in tensors.items() if k.startswith(PREFIX)}, spec["lora"], path), path)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, spec = read_weights(path)
    if spec.get("kind") != KIND:
        raise WeightsError(f"{path}: is no file of kind {KIND!r}; 'unisync train' by recipes/wan-lora.toml writes one")
    return tensors, spec
