"""Wan's two autoencoders: diffusers' network, filled from files by Wan's own names or by diffusers'."""

from __future__ import annotations

import re
import threading
from typing import Any

import torch
from torch import Tensor

from unisync.errors import WeightsError
from unisync.nets.wan.files import WeightFiles
from unisync.nets.wan.recognise import some, vae_latents

_RESIDUAL = {"residual.0": "norm1", "residual.2": "conv1", "residual.3": "norm2", "residual.6": "conv2"}
_RESIDUAL["shortcut"] = "conv_shortcut"
_HALF = {
    "conv1": "conv_in",
    "head.0": "norm_out",
    "head.2": "conv_out",
    "middle.1": "mid_block.attentions.0",
    "middle.0": "mid_block.resnets.0",
    "middle.2": "mid_block.resnets.1",
}
_WHOLE = {"conv1": "quant_conv", "conv2": "post_quant_conv"}
_DOWN, _UP = 2, 3
"""Residual layers of a stage, before the one that changes the size."""
_PREFIX = re.compile(r"^(?:.+?\.)??(?=(?:encoder|decoder|conv[12]|quant_conv|post_quant_conv)\.)")

MULTIPLES = (1, 2, 4, 4)
"""Channels of the four stages, in units of the first one's."""
TEMPORAL_STRIDE = 4

# By their authors, over the latents of their training films.
MEAN_16 = (
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
    0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
)  # fmt: skip
STD_16 = (
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
    3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
)  # fmt: skip
MEAN_48 = (
    -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891,
    0.1570, -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502,
    -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230, -0.0313, -0.1649, 0.0117, 0.0723,
    -0.2839, -0.2083, -0.0520, 0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667,
)  # fmt: skip
STD_48 = (
    0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901,
    0.6885, 0.6165, 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
    0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944,
    0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
)  # fmt: skip
SPATIAL_STRIDES = {16: 8, 48: 16}
"""By the channels of the latents."""


class WanVae:
    """Canvases to latents of mean 0 and spread 1, and back. Raises WeightsError if a file holds no autoencoder of Wan's."""

    def __init__(self, files: WeightFiles, device: torch.device | str = "cpu") -> None:
        self.channels = vae_latents(files.shapes, files.path)
        if self.channels not in SPATIAL_STRIDES:
            raise WeightsError(
                f"{files.path}: an autoencoder of {self.channels} channels is none of Wan's, which have 16 or 48"
            )
        self.spatial_stride = SPATIAL_STRIDES[self.channels]
        self.device = torch.device(device)
        self.network: Any = _filled(files, self.channels, self.device)
        mean, std = (MEAN_16, STD_16) if self.channels == 16 else (MEAN_48, STD_48)
        self._mean, self._std = (torch.tensor(each, device=device).view(1, -1, 1, 1, 1) for each in (mean, std))
        # diffusers' network keeps what its convolutions saw last in itself, and windows are painted side by side.
        self._alone = threading.Lock()

    def tile(self) -> None:
        """Work in tiles from now on."""
        self.network.enable_tiling()

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Return latents (1, C, 1 + n, h, w) of pictures (1, 3, 1 + 4n, H, W) in [-1, 1]."""
        with self._alone:
            z = self.network.encode(x.to(self.device)).latent_dist.mode()
        return (z - self._mean) / self._std

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Return pictures (1, 3, 1 + 4n, H, W) in [-1, 1] of latents (1, C, 1 + n, h, w)."""
        with self._alone:
            x: Tensor = self.network.decode(z * self._std + self._mean).sample
        return x


def vae_to_diffusers(name: str, nested: bool) -> str:
    """Return diffusers' name of an autoencoder's tensor in Wan's names.

    nested: whether stages lie in one another, as in Wan2.2's.
    """
    half, _, rest = name.partition(".")
    if half not in ("encoder", "decoder"):
        return f"{_WHOLE.get(half, half)}.{rest}"
    if stage := re.fullmatch(r"(?:down|up)samples\.(\d+)\.(.+)", rest):
        return f"{half}.{_staged(half == 'encoder', int(stage[1]), stage[2], nested)}"
    for ours, theirs in _HALF.items():
        if rest.startswith(f"{ours}."):
            return f"{half}.{theirs}.{_layer(rest.removeprefix(f'{ours}.'))}"
    raise ValueError(f"{name!r} is no tensor of Wan's autoencoder")


def _staged(down: bool, index: int, rest: str, nested: bool) -> str:
    """Return diffusers' name of what lies in a stage of one half."""
    if nested:
        inner = re.fullmatch(r"(?:down|up)samples\.(\d+)\.(.+)", rest)
        assert inner is not None
        layer, rest = int(inner[1]), inner[2]
        change = "downsampler" if down else "upsampler"
    elif down:
        return f"down_blocks.{index}.{_layer(rest)}"
    else:
        index, layer = divmod(index, _UP + 1)
        change = "upsamplers.0"
    place = f"resnets.{layer}" if layer < (_DOWN if down else _UP) else change
    return f"{'down' if down else 'up'}_blocks.{index}.{place}.{_layer(rest)}"


def _layer(rest: str) -> str:
    """Return diffusers' name of a part of a layer; what changes the size has the same in both."""
    for ours, theirs in _RESIDUAL.items():
        if rest.startswith(f"{ours}."):
            return f"{theirs}.{rest.removeprefix(f'{ours}.')}"
    return rest


def _filled(files: WeightFiles, channels: int, device: torch.device) -> Any:
    """Return diffusers' network with the tensors of the files."""
    try:
        from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
    except ImportError as error:
        raise WeightsError(f"{files.path}: Wan's autoencoder needs diffusers: pip install 'unisync[wan]'") from error
    bare = {_PREFIX.sub("", name, count=1): name for name in files.names()}
    if "decoder.conv1.weight" in bare:
        nested = any(name.startswith("decoder.upsamples.0.upsamples.") for name in bare)
        bare = {vae_to_diffusers(name, nested): own for name, own in bare.items()}
    state = {name: files.tensor(own, torch.float32) for name, own in bare.items()}
    config: dict[str, Any] = {
        "base_dim": state["encoder.conv_in.weight"].shape[0],
        "decoder_base_dim": state["decoder.conv_in.weight"].shape[0] // MULTIPLES[-1],
        "z_dim": channels,
        "dim_mult": list(MULTIPLES),
    }
    if channels == 48:
        config |= {"is_residual": True, "in_channels": 12, "out_channels": 12, "patch_size": 2}
        config |= {"scale_factor_spatial": 16, "latents_mean": list(MEAN_48), "latents_std": list(STD_48)}
    with torch.device("meta"):
        network = AutoencoderKLWan(**config)
    wanted = {name: value.shape for name, value in network.state_dict().items()}
    wrong = [name for name in wanted if name not in state or state[name].shape != wanted[name]]
    if wrong or len(state) != len(wanted):
        strange = wrong or sorted(set(state) - set(wanted))
        raise WeightsError(f"{files.path}: as an autoencoder of Wan's it is wrong in {some(strange)}; get it again")
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False).to(device)
