"""Wan's autoencoders in small, by the names of both layouts."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

State = dict[str, Tensor]
LAYERS = {"norm1": "residual.0", "conv1": "residual.2", "norm2": "residual.3", "conv2": "residual.6"}


def small_vae(channels: int) -> Any:
    """Return diffusers' network of 16 or 48 channels, as Wan2.1's or Wan2.2's but for its width; untrained."""
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

    torch.manual_seed(0)
    if channels == 16:
        return AutoencoderKLWan(base_dim=4).eval()
    return AutoencoderKLWan(
        base_dim=4, decoder_base_dim=8, z_dim=48, is_residual=True, in_channels=12, out_channels=12, patch_size=2,
        scale_factor_spatial=16, latents_mean=[0.0] * 48, latents_std=[1.0] * 48,
    ).eval()  # fmt: skip


def by_wan(name: str) -> str:
    """Return Wan's own name of a tensor of diffusers' network; written down apart from the one under test."""
    half, _, rest = name.partition(".")
    if half in ("quant_conv", "post_quant_conv"):
        return f"{'conv1' if half == 'quant_conv' else 'conv2'}.{rest}"
    rest = re.sub(r"^conv_in\.", "conv1.", rest)
    rest = re.sub(r"^norm_out\.", "head.0.", re.sub(r"^conv_out\.", "head.2.", rest))
    rest = re.sub(r"^mid_block\.attentions\.0\.", "middle.1.", rest)
    inner = re.sub(r"\.(norm1|norm2|conv1|conv2)\.", lambda m: f".{LAYERS[m[1]]}.", rest)
    inner = inner.replace(".conv_shortcut.", ".shortcut.")
    if m := re.fullmatch(r"mid_block\.resnets\.(\d)\.(.+)", inner):
        return f"{half}.middle.{2 * int(m[1])}.{m[2]}"
    if m := re.fullmatch(r"down_blocks\.(\d+)\.resnets\.(\d)\.(.+)", inner):
        return f"{half}.downsamples.{m[1]}.downsamples.{m[2]}.{m[3]}"
    if m := re.fullmatch(r"down_blocks\.(\d+)\.downsampler\.(.+)", inner):
        return f"{half}.downsamples.{m[1]}.downsamples.2.{m[2]}"
    if m := re.fullmatch(r"down_blocks\.(\d+)\.(.+)", inner):
        return f"{half}.downsamples.{m[1]}.{m[2]}"
    if m := re.fullmatch(r"up_blocks\.(\d+)\.upsampler\.(.+)", inner):
        return f"{half}.upsamples.{m[1]}.upsamples.3.{m[2]}"
    if m := re.fullmatch(r"up_blocks\.(\d+)\.upsamplers\.0\.(.+)", inner):
        return f"{half}.upsamples.{4 * int(m[1]) + 3}.{m[2]}"
    return f"{half}.{inner}"


def nested(state: State, residual: bool) -> State:
    """Return a state by Wan's names. residual: Wan2.2's, whose decoder's stages lie in one another as well."""

    def name(old: str) -> str:
        new = by_wan(old)
        m = re.fullmatch(r"decoder\.up_blocks\.(\d+)\.resnets\.(\d)\.(.+)", new)
        if m is None:
            return new
        place = f"{m[1]}.upsamples.{m[2]}" if residual else str(4 * int(m[1]) + int(m[2]))
        return f"decoder.upsamples.{place}.{m[3]}"

    return {name(old): value for old, value in state.items()}
