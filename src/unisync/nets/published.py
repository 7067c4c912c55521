"""Networks that others published, filled from their files as these lie; nothing in a file is run but TorchScript."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from unisync.errors import WeightsError
from unisync.nets.arcface import ArcFace
from unisync.nets.i3d import I3d
from unisync.nets.inception import Inception
from unisync.nets.syncnet import SyncNet

I3D_SCRIPT = "i3d_torchscript.pt"
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "syncnet_v2.model": SyncNet,
    "pt_inception-2015-12-05-6726825d.pth": Inception,
    "rgb_imagenet.pt": I3d,
    "w600k_r50.pth": ArcFace,
}
"""The network of each published file of tensors."""
FILES = (*NETWORKS, I3D_SCRIPT)
COUNTER = "num_batches_tracked"
"""What batch normalisation counts in training; older files lack it, and nobody reads it."""


class ScriptedI3d(nn.Module):
    """The I3D inside `i3d_torchscript.pt`, which scales and resizes by itself."""

    def __init__(self, script: Callable[..., Tensor]) -> None:
        super().__init__()
        self._script = script

    @torch.no_grad()
    def forward(self, clips: Tensor) -> Tensor:
        """Return logits (N, 400) of clips (N, 3, T, H, W) in [-1, 1], red first."""
        logits: Tensor = self._script((clips + 1) * 127.5, rescale=True, resize=True, return_features=True)
        return logits


def load_published(name: str, path: Path) -> nn.Module:
    """Return the network of the published file `name`, which lies at `path`: frozen, in evaluation mode.

    Raises WeightsError if the file is damaged or its tensors are not those of that network.
    """
    if name == I3D_SCRIPT:
        return ScriptedI3d(_script(path)).eval()
    with torch.device("meta"):  # nothing is drawn at random that the file replaces anyway
        network = NETWORKS[name]()
    state = read_state(path)
    check_layout(network.state_dict(), state, path)
    counters = {key: torch.zeros((), dtype=torch.long) for key in network.state_dict() if key.endswith(COUNTER)}
    network.load_state_dict(counters | state, assign=True)
    return network.eval().requires_grad_(False)


def read_state(path: Path) -> dict[str, Tensor]:
    """Return a file's tensors by name, float32 where they are floats. Raises WeightsError if it is not such a file."""
    try:
        found = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to say
        first = next(iter(str(error).splitlines()), "")
        raise WeightsError(
            f"{path}: cannot be read as weights ({type(error).__name__}: {first}); get it again"
        ) from error
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise WeightsError(f"{path}: does not hold tensors by name alone; take the file that docs/models.md names")
    return {key: value.float() if value.is_floating_point() else value for key, value in found.items()}


def check_layout(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path) -> None:
    """Raise WeightsError unless the tensors' names and shapes are those wanted."""
    needed = [key for key in wanted if not key.endswith(COUNTER)]
    missing = [key for key in needed if key not in state]
    unknown = [key for key in state if key not in wanted]
    other = [key for key in needed if key in state and state[key].shape != wanted[key].shape]
    for keys, what in ((missing, "lacks"), (unknown, "has, unlooked for,"), (other, "has in another shape")):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise WeightsError(
                f"{path}: the file {what} {keys[0]!r}{more}; it is another network's: take the one that docs/models.md names"
            )


def _script(path: Path) -> Any:
    try:
        return torch.jit.load(path, map_location="cpu").eval()
    except (RuntimeError, ValueError) as error:
        first = next(iter(str(error).splitlines()), "")
        raise WeightsError(f"{path}: cannot be read as TorchScript ({first}); get it again") from error
