"""Small changes to a transformer (LoRA, arXiv 2106.09685) in the dialects they come in, by Wan's module names.

`X.lora_A/B.weight` (a name such as `default` may stand before `weight`) and kohya's `X.lora_down/up.weight` with
`X.alpha`; whole differences `X.diff` of weights, `X.diff_b` of biases and `X.diff_m` of a block's modulation. X has a
trainer's prefix before it, and kohya writes its dots as underscores. How strong a change is, alpha says, or the
metadata, or nobody: then it is as it stands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from math import sqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unisync.errors import WeightsError
from unisync.nets.wan.families import FAMILIES, family_shapes
from unisync.nets.wan.names import Layout, layout_of, to_diffusers, to_original
from unisync.nets.wan.recognise import some
from unisync.nets.wan.stores import SafetensorsStore, open_store, read_json
from unisync.nets.weights import KEY

PREFIX = re.compile(r"(base_model\.model\.|(model\.)?diffusion_model\.|transformer\.|pipe\.dit\.|dit\.|model\.)+")
FLAT = re.compile(r"(lora_unet|lycoris)_+(.+)")
NAME = re.compile(
    r"(?P<module>.+?)\.(?:lora_(?P<part>A|B|down|up)(?:\.\w+)?\.weight|(?P<whole>alpha|diff|diff_b|diff_m))",
)
DOWN = ("A", "down")


@dataclass(frozen=True, eq=False)
class Delta:
    """The change of a linear layer, convolution, norm or bare parameter.

    down: (r, in, *kernel).  up: (out, r, ...).  diff_b: (out,).
    """

    down: Tensor | None = None
    up: Tensor | None = None
    scale: float = 1.0
    diff: Tensor | None = None
    """What is added to the weight as it is, (out, in, *kernel)."""
    diff_b: Tensor | None = None
    """What is added to the bias."""

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The weight's shape; None if only the bias changes."""
        if self.down is not None and self.up is not None:
            return (self.up.shape[0], *self.down.shape[1:])
        return None if self.diff is None else tuple(self.diff.shape)

    def weight(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return what is added to the weight, reckoned in float32. Raises ValueError if only the bias changes."""
        if self.shape is None:
            raise ValueError("this change is of the bias alone")
        total = None if self.diff is None else self.diff.float()
        if self.down is not None and self.up is not None:
            product = self.up.float().flatten(1) @ self.down.float().flatten(1)
            change = product.view(self.shape) * self.scale
            total = change if total is None else total + change
        assert total is not None
        return total.to(dtype)


@dataclass(frozen=True)
class Strength:
    """What a trainer's configuration says of the scale, where no alpha stands in the file."""

    alpha: float | None = None
    root: bool = False
    """Whether alpha is over the rank's root (rs-LoRA, arXiv 2312.03732) instead of the rank."""
    alphas: Mapping[str, float] = field(default_factory=dict)
    """alpha of single modules, by the end of their names."""

    def scale(self, module: str, rank: int, alpha: float | None) -> float:
        """Return the factor of a module's change of this rank, in whose file stands alpha, or None."""
        if alpha is None:
            ends = (value for end, value in self.alphas.items() if module == end or module.endswith(f".{end}"))
            alpha = next(ends, self.alpha)
        return 1.0 if alpha is None else alpha / (sqrt(rank) if self.root else rank)


def shapes_of(changes: Mapping[str, Delta]) -> dict[str, tuple[int, ...] | None]:
    """Return the shape of each changed weight, None where only the bias changes, as `check_pair` takes them."""
    return {module: delta.shape for module, delta in changes.items()}


def read_lora(path: Path, beside: bool = False) -> dict[str, Delta]:
    """Return a file's changes by Wan's module names. A folder is peft's, with `adapter_config.json` in it.

    beside: whether other tensors may stand in the file, as whole ones do in TalkVerse's.
    Raises WeightsError if the file is damaged, in no known dialect or holds no change.
    """
    config: dict[str, Any] = {}
    if path.is_dir():
        config = read_json(path / "adapter_config.json")
        path = path / "adapter_model.safetensors"
    store = open_store(path)
    if isinstance(store, SafetensorsStore):
        config = _said(store.metadata, path) | config
    return deltas({name: store.tensor(name) for name in store.shapes}, config, path, beside)


def deltas(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any], source: str | Path, beside: bool = False
) -> dict[str, Delta]:
    """Return the changes in tensors by their names in a file.

    config: peft's configuration as far as it is known.  source: what messages call the file.  Raises WeightsError.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    unknown = []
    for name, tensor in tensors.items():
        match = NAME.fullmatch(name)
        module = _module(match["module"]) if match else None
        if match is None or module is None:
            unknown.append(name)
            continue
        part = match["whole"] or ("down" if match["part"] in DOWN else "up")
        if part == "diff_m":
            module, part = f"{module}.modulation", "diff"
        if part in parts.get(module, {}):
            raise WeightsError(f"{source}: changes {module!r} twice, once as {name!r}; give one LoRA a file")
        parts.setdefault(module, {})[part] = tensor
    if unknown and not beside:
        raise WeightsError(
            f"{source}: {len(unknown)} of {len(tensors)} names are in no known LoRA dialect, {some(unknown)}; "
            "convert it to lora_A/lora_B or lora_down/lora_up"
        )
    if not parts:
        raise WeightsError(f"{source}: holds no LoRA tensors; give a LoRA file")
    layout = layout_of(f"{module}.weight" for module in parts)
    strength = _strength(config, source)
    made = {_original(module, layout): _delta(module, found, strength, source) for module, found in parts.items()}
    return dict(sorted(made.items()))


def _delta(module: str, found: Mapping[str, Tensor], strength: Strength, source: str | Path) -> Delta:
    down, up = found.get("down"), found.get("up")
    if (down is None) != (up is None):
        lost, here = ("lora_A", "lora_B") if down is None else ("lora_B", "lora_A")
        raise WeightsError(f"{source}: {module!r} has {here} and no {lost}; get the file again")
    delta = Delta(down=down, up=up, diff=found.get("diff"), diff_b=found.get("diff_b"))
    if down is not None and up is not None:
        if min(down.ndim, up.ndim) < 2 or up[0].numel() != len(down):
            sizes = f"{tuple(down.shape)} and {tuple(up.shape)}"
            raise WeightsError(
                f"{source}: the two parts of {module!r}, {sizes}, are of no one rank; get the file again"
            )
        alpha = float(found["alpha"].flatten()[0]) if "alpha" in found else None
        delta = replace(delta, scale=strength.scale(module, len(down), alpha))
        if delta.diff is not None and delta.diff.shape != delta.shape:
            raise WeightsError(f"{source}: {module!r} has a diff of another shape than its LoRA; get the file again")
    elif delta.diff is None and delta.diff_b is None:
        raise WeightsError(f"{source}: {module!r} has an alpha and nothing to scale; get the file again")
    return delta


def _module(name: str) -> str | None:
    """Return a module's dotted name without its trainer's prefix; None if underscores hide which one it is."""
    if flat := FLAT.fullmatch(name):
        return _unflattened().get(flat[2])
    return PREFIX.sub("", name, count=1) if PREFIX.match(name) else name


def _original(module: str, layout: Layout) -> str:
    return to_original(module) if layout == "diffusers" else module


@cache
def _unflattened() -> dict[str, str]:
    """Return every known module's name, Wan's or diffusers', by the same with underscores for dots."""
    known = {name.rpartition(".")[0] for key in FAMILIES for name in family_shapes(key)}
    return {module.replace(".", "_"): module for name in sorted(known) for module in (name, to_diffusers(name))}


def _said(metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    """Return peft's configuration from a file's metadata: ours, or diffusers' without its prefix."""
    try:
        if KEY in metadata:
            return dict(json.loads(metadata[KEY])["lora"])
        said = json.loads(metadata.get("lora_adapter_metadata", "{}"))
        return {name.removeprefix("transformer."): value for name, value in said.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: its LoRA metadata are damaged ({error}); get it again") from error


def _strength(config: Mapping[str, Any], source: str | Path) -> Strength:
    try:
        alpha = config.get("lora_alpha")
        alphas = {str(name): float(value) for name, value in (config.get("alpha_pattern") or {}).items()}
        return Strength(None if alpha is None else float(alpha), bool(config.get("use_rslora")), alphas)
    except (TypeError, ValueError, AttributeError) as error:
        raise WeightsError(f"{source}: its LoRA configuration makes no sense ({error}); get it again") from error
