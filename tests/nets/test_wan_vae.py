"""Wan's autoencoders: both layouts fill the same network, whose latents are diffusers' own, normalised."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from unisync.errors import WeightsError
from unisync.nets.wan.files import WeightFiles
from unisync.nets.wan.vae import MEAN_48, STD_48, WanVae, vae_to_diffusers
from wan_vae import nested, small_vae

KNOWN = {
    "decoder.upsamples.0.upsamples.3.time_conv.bias": "decoder.up_blocks.0.upsampler.time_conv.bias",
    "decoder.upsamples.1.upsamples.2.residual.3.gamma": "decoder.up_blocks.1.resnets.2.norm2.gamma",
    "decoder.upsamples.2.upsamples.0.shortcut.weight": "decoder.up_blocks.2.resnets.0.conv_shortcut.weight",
    "encoder.downsamples.0.downsamples.2.resample.1.weight": "encoder.down_blocks.0.downsampler.resample.1.weight",
    "encoder.downsamples.1.downsamples.0.shortcut.weight": "encoder.down_blocks.1.resnets.0.conv_shortcut.weight",
    "decoder.middle.2.residual.6.bias": "decoder.mid_block.resnets.1.conv2.bias",
}


@pytest.mark.parametrize("channels", [16, 48])
def test_names_go_there_and_back(channels: int) -> None:
    state = small_vae(channels).state_dict()
    wan = nested(state, channels == 48)
    assert len(wan) == len(state) and not set(wan) & set(state)
    assert [vae_to_diffusers(name, channels == 48) for name in wan] == list(state)
    if channels == 16:
        from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

        assert set(convert_wan_vae_to_diffusers(dict(wan))) == set(state)
    else:
        assert {name: vae_to_diffusers(name, True) for name in KNOWN} == KNOWN and KNOWN.keys() <= wan.keys()


@pytest.mark.parametrize(("channels", "prefix"), [(16, ""), (16, "vae."), (48, "")])
def test_both_layouts_are_the_same_autoencoder(channels: int, prefix: str, tmp_path: Path) -> None:
    own = small_vae(channels)
    state = own.state_dict()
    made = []
    for name, laid in (("diffusers", state), ("wan", nested(state, channels == 48))):
        path = tmp_path / f"{name}.safetensors"
        save_file({prefix + key: value.contiguous() for key, value in laid.items()}, path)
        made.append(WanVae(WeightFiles(path)))
    x = torch.rand(1, 3, 5, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    one, two = (each.encode(x) for each in made)
    assert torch.equal(one, two) and one.shape == (
        1,
        channels,
        2,
        32 // made[0].spatial_stride,
        32 // made[0].spatial_stride,
    )
    back = [each.decode(one) for each in made]
    assert torch.equal(*back) and back[0].shape == x.shape
    with torch.no_grad():
        raw = own.encode(x).latent_dist.mode()
    if channels == 48:
        mean, std = (torch.tensor(each).view(1, -1, 1, 1, 1) for each in (MEAN_48, STD_48))
        assert torch.allclose((raw - mean) / std, one, atol=1e-5)
    tiled = WanVae(WeightFiles(path))
    tiled.tile()
    assert torch.equal(tiled.encode(x), one)  # smaller than a tile


def test_what_is_no_autoencoder_of_wans_is_told(tmp_path: Path) -> None:
    state = {key: value.contiguous() for key, value in small_vae(16).state_dict().items()}
    del state["decoder.norm_out.gamma"]
    save_file(state, tmp_path / "less.safetensors")
    with pytest.raises(WeightsError, match=r"less.safetensors.*'decoder.norm_out.gamma'"):
        WanVae(WeightFiles(tmp_path / "less.safetensors"))
    save_file({"decoder.conv_in.weight": torch.zeros(4, 4, 3, 3, 3)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="4 channels is none of Wan's"):
        WanVae(WeightFiles(tmp_path / "other.safetensors"))
