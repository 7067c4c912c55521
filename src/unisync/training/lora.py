"""LoRA in training: peft's layers in a frozen network, and the file that `dub --lora` reads."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from unisync.errors import OptionError
from unisync.nets.lora import KIND, PREFIX
from unisync.nets.patch import PatchEmbedding
from unisync.nets.weights import write_tensors


@dataclass(frozen=True, kw_only=True)
class LoraRecipe:
    """targets: ends of the names of the linear layers and convolutions that are changed."""

    rank: int = 32
    alpha: float = 32.0
    targets: tuple[str, ...] = ("q", "k", "v", "o", "ffn.0", "ffn.2")

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise OptionError(f"rank must be 1 or more, not {self.rank}")


def add_lora(network: nn.Module, recipe: LoraRecipe) -> None:
    """Freeze the network and lay trainable changes, which begin at zero, over its targets. Raises OptionError."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise OptionError("LoRA needs peft: pip install 'unisync[train]'") from error
    names = [name for name, module in network.named_modules() if _changes(module)]
    for target in recipe.targets:
        if not any(name == target or name.endswith(f".{target}") for name in names):
            raise OptionError(f"lora: no linear layer or convolution of this network ends in {target!r}")
    config = LoraConfig(r=recipe.rank, lora_alpha=recipe.alpha, target_modules=list(recipe.targets))  # type: ignore[arg-type]
    inject_adapter_in_model(config, network)


def save_lora(path: Path, network: nn.Module, part: str, recipe: LoraRecipe) -> None:
    """Write a network's changes. part: which of a backbone's networks it is."""
    from peft import get_peft_model_state_dict

    found = get_peft_model_state_dict(network)
    tensors = {PREFIX + name: value.detach().float().cpu().contiguous() for name, value in found.items()}
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "r": recipe.rank,
        "lora_alpha": recipe.alpha,
        "target_modules": list(recipe.targets),
    }
    write_tensors(path, tensors, {"kind": KIND, "part": part, "lora": config})


def lora_spec(recipe: LoraRecipe | None) -> dict[str, Any]:
    """Return what a checkpoint's spec says of LoRA."""
    return {} if recipe is None else {"lora": json.loads(json.dumps(asdict(recipe)))}


def _changes(module: nn.Module) -> bool:
    # A patch embedding gives its tokens in another order than the convolution it is named after.
    return isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)) and not isinstance(module, PatchEmbedding)
