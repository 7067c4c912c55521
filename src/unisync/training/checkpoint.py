"""Checkpoints: FOLDER/step-NNNNNNNN/ with weights that say what they are, and beside them the state to go on exactly."""

from __future__ import annotations

import json
import shutil
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from unisync.errors import WeightsError
from unisync.nets.weights import KEY

if TYPE_CHECKING:
    from accelerate import Accelerator

WEIGHTS = "weights.safetensors"


def write_checkpoint(
    folder: Path,
    step: int,
    networks: dict[str, nn.Module],
    spec: dict[str, Any],
    state: dict[str, Any],
    accelerator: Accelerator,
) -> None:
    """Write the checkpoint of a step under another name, rename it, and remove the older ones.

    Every process writes its own state, the first one the weights.
    """
    goal = folder / f"step-{step:08d}"
    part = goal.with_suffix(".part")
    if accelerator.is_main_process:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        tensors: dict[str, Tensor] = {}
        for name, network in networks.items():
            tensors |= {f"{name}.{key}": value.cpu().contiguous() for key, value in network.state_dict().items()}
        save_file(tensors, part / WEIGHTS, metadata={KEY: json.dumps(spec | {"step": step})})
    accelerator.wait_for_everyone()
    torch.save(state, part / f"state-{accelerator.process_index}.pt")
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        older = [path for path in _checkpoints(folder) if path != goal]
        shutil.rmtree(goal, ignore_errors=True)
        part.replace(goal)
        for path in older:
            shutil.rmtree(path)


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint, if there is one."""
    return max(_checkpoints(folder), default=None)


def read_checkpoint(path: Path, networks: dict[str, nn.Module], spec: dict[str, Any], process: int) -> dict[str, Any]:
    """Fill the networks and return the state of one process. Raises WeightsError where it does not fit."""
    wanted = json.loads(json.dumps(spec))
    try:
        with safe_open(path / WEIGHTS, framework="pt") as file:
            found: dict[str, Any] = json.loads((file.metadata() or {})[KEY])
            different = [key for key in {*wanted, *found} - {"step"} if wanted.get(key) != found.get(key)]
            if different:
                raise WeightsError(f"{path}: was trained with another {different[0]}; take another work folder")
            for name, network in networks.items():
                start = f"{name}."
                keys = [key for key in file.keys() if key.startswith(start)]  # noqa: SIM118
                network.load_state_dict({key.removeprefix(start): file.get_tensor(key) for key in keys})
        state: dict[str, Any] = torch.load(path / f"state-{process}.pt", weights_only=True, map_location="cpu")
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"{path}: the checkpoint is damaged, or fewer processes wrote it than read it ({error}); remove it"
        ) from error
    return state


def signature(network: nn.Module) -> str:
    """Return a short name of a network's weights."""
    mark = 0
    for value in network.state_dict().values():
        mark = zlib.crc32(value.cpu().contiguous().numpy().tobytes(), mark)
    return f"{mark:08x}"


def _checkpoints(folder: Path) -> list[Path]:
    return [path for path in folder.glob("step-*") if path.suffix != ".part"]
