"""What training adds to a public model so that it edits a film: a LoRA, the source's channels (Eq 2), the pose encoder.

One file holds all three; peft's names for the LoRA, the network's own for what is trained in full.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from unisync.errors import WeightsError
from unisync.nets.lora import PREFIX, add_changes
from unisync.nets.transformer import Transformer
from unisync.nets.wan.lora_files import deltas
from unisync.nets.wan.stores import SafetensorsStore, open_store
from unisync.nets.weights import KEY, read_weights

KIND = "editing"
FULL = ("pose_encoder.", "cond_encoder.")
"""Parts trained in full: ours, or the model's own pose encoder."""
ADDED = "patch_embedding.added"
"""The patch embedding's weights for the source's channels, (D, C, 1, 2, 2)."""


@dataclass(frozen=True)
class Taught:
    """What such a file says of itself. canvas: side in pixels of the windows it was taught.  length: their frames."""

    path: Path
    family: str
    canvas: int
    length: int


def taught_by(path: Path) -> Taught | None:
    """Return what a file says of itself, of which only the header is read; None if it is another kind of file.

    Raises WeightsError if it is damaged.
    """
    store = open_store(path) if path.suffix == ".safetensors" else None
    if not isinstance(store, SafetensorsStore) or KEY not in store.metadata:
        return None
    try:
        spec = json.loads(store.metadata[KEY])
        if spec.get("kind") != KIND:
            return None
        return Taught(path, str(spec["family"]), int(spec["canvas"]), int(spec["length"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: what it says of itself is damaged ({error!r}); get it again") from error


def check_family(taught: Taught, family: str) -> None:
    """Raise WeightsError unless it was a model of this family that was taught."""
    if taught.family != family:
        raise WeightsError(f"{taught.path}: was trained for {taught.family} and not for {family}; give it that model")


@torch.no_grad()
def apply_editing(net: Transformer, family: str, path: Path) -> None:
    """Let a family's editing network (`config_of(..., editing=True)`) be what a file trained. Raises WeightsError."""
    found = taught_by(path)
    if found is None:
        raise WeightsError(f"{path}: is no file of kind {KIND!r}; 'unisync train' by recipes/wan-lora.toml writes one")
    check_family(found, family)
    tensors, spec = read_weights(path)
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
