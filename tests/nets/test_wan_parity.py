"""Our transformer and diffusers' with equal small weights give equal pictures: T2V, I2V and TI2V's levels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from unisync.nets.transformer import Condition, Transformer, TransformerConfig
from unisync.nets.wan.names import to_original
from unisync.nets.wan.s2v import AdaptiveNorm
from unisync.nets.wan.xdub import FeatureLayer

diffusers = pytest.importorskip("diffusers")

FRAMES, SIZE, CLIP, CLOSE = 3, (8, 6), 20, 1e-5
PLAIN = TransformerConfig(
    channels=4, editing=False, width=48, layers=2, heads=2, ffn=64, frequencies=32, text_width=32, audio_width=0,
    lip_width=0, positions_per_second=4.0, pose_grid=None,
)  # fmt: skip


def pair(config: TransformerConfig) -> tuple[torch.nn.Module, Transformer]:
    """Return diffusers' network and ours with the same random weights."""
    torch.manual_seed(0)
    clip = {"image_dim": config.image_width, "added_kv_proj_dim": config.width} if config.image_width else {}
    theirs = diffusers.WanTransformer3DModel(
        num_attention_heads=config.heads, attention_head_dim=config.width // config.heads, in_channels=config.channels_in,
        out_channels=config.channels, text_dim=config.text_width, freq_dim=config.frequencies, ffn_dim=config.ffn,
        num_layers=config.layers, rope_max_seq_len=64, **clip,
    ).eval()  # fmt: skip
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(0, 0.2)
    ours = Transformer(config).eval()
    ours.load_state_dict({to_original(name): value for name, value in theirs.state_dict().items()})
    return theirs, ours


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def condition(**parts: Tensor) -> Condition:
    seconds = torch.arange(FRAMES).expand(2, -1) / 4
    return Condition(source=draw(2, 4, FRAMES, *SIZE), seconds=seconds, **parts)


@torch.no_grad()
def differ(config: TransformerConfig, sigma: Tensor, timestep: Tensor, given: Condition) -> float:
    theirs, ours = pair(config)
    z = draw(2, config.channels, FRAMES, *SIZE)
    into = z if given.extra is None else torch.cat([z, given.extra], dim=1)
    wanted = theirs(into, timestep, given.text, given.image, return_dict=False)[0]
    assert wanted.abs().max() > 0.5
    return float((ours(z, sigma, given) - wanted).abs().max())


def test_text_to_video() -> None:
    sigma = torch.tensor([0.7, 0.2])
    assert differ(PLAIN, sigma, sigma * 1000, condition(text=draw(2, 7, 32))) < CLOSE


def test_image_to_video() -> None:
    config = replace(PLAIN, extra=5, image_width=CLIP)
    sigma = torch.tensor([0.7, 0.2])
    # diffusers takes the last 512 tokens for the text's, whatever comes before for the image's.
    given = condition(text=draw(2, 512, 32), image=draw(2, 9, CLIP), extra=draw(2, 5, FRAMES, *SIZE))
    assert differ(config, sigma, sigma * 1000, given) < CLOSE


def test_a_level_of_its_own_for_every_frame() -> None:
    sigma = torch.tensor([[0.0, 0.7, 0.4], [0.0, 0.2, 0.9]])
    tokens = SIZE[0] * SIZE[1] // 4
    timestep = (sigma * 1000).repeat_interleave(tokens, dim=1)
    assert differ(PLAIN, sigma, timestep, condition(text=draw(2, 7, 32))) < CLOSE


def test_one_level_is_the_same_for_every_frame() -> None:
    _, ours = pair(PLAIN)
    z, given, sigma = draw(2, 4, FRAMES, *SIZE), condition(text=draw(2, 7, 32)), torch.tensor([0.7, 0.2])
    with torch.no_grad():
        one, every = ours(z, sigma, given), ours(z, sigma[:, None].expand(-1, FRAMES), given)
    torch.testing.assert_close(one, every, rtol=0, atol=CLOSE)


@pytest.mark.parametrize("name", ["image", "extra", "text"])
def test_every_condition_is_heard(name: str) -> None:
    _, ours = pair(replace(PLAIN, extra=5, image_width=CLIP))
    z, sigma = draw(2, 4, FRAMES, *SIZE), torch.tensor([0.7, 0.2])
    parts = {"text": draw(2, 7, 32), "image": draw(2, 9, CLIP), "extra": draw(2, 5, FRAMES, *SIZE)}
    with torch.no_grad():
        one = ours(z, sigma, condition(**parts))
        two = ours(z, sigma, condition(**parts | {name: -parts[name]}))
    assert (one - two).abs().max() > 1e-3


def test_missing_channels_are_said() -> None:
    _, ours = pair(replace(PLAIN, extra=5))
    with pytest.raises(ValueError, match=r"takes 9 channels and was given 4: `Condition.extra` must have 5"):
        ours(draw(2, 4, FRAMES, *SIZE), torch.tensor([0.7, 0.2]), condition(text=draw(2, 7, 32)))


def test_xdubs_layers_are_diffusers() -> None:
    from diffusers.models.attention import Attention, FeedForward
    from diffusers.models.embeddings import SinusoidalPositionalEmbedding

    torch.manual_seed(0)
    ours = FeatureLayer(128)
    theirs = torch.nn.ModuleDict(
        {
            "norm1": torch.nn.LayerNorm(128),
            "attn": Attention(query_dim=128, heads=2, dim_head=64),
            "norm2": torch.nn.LayerNorm(128),
            "ff": FeedForward(dim=128),
            "pos_embed": SinusoidalPositionalEmbedding(embed_dim=128, max_seq_length=100),
        }
    )
    torch.testing.assert_close(ours.pos_embed.get_buffer("pe"), theirs["pos_embed"].pe, rtol=0, atol=1e-5)
    theirs.load_state_dict(ours.state_dict())
    x = draw(2, 8, 128)
    y = x + theirs["attn"](theirs["pos_embed"](theirs["norm1"](x)))
    torch.testing.assert_close(ours(x), y + theirs["ff"](theirs["norm2"](y)), rtol=0, atol=CLOSE)


def test_the_adaptive_norm_is_diffusers() -> None:
    from diffusers.models.normalization import AdaLayerNorm

    torch.manual_seed(0)
    ours, theirs = AdaptiveNorm(48), AdaLayerNorm(embedding_dim=48, output_dim=96, chunk_dim=1)
    theirs.load_state_dict(ours.state_dict())
    x, said = draw(2, 6, 48), draw(2, 48)
    torch.testing.assert_close(ours(x, said), theirs(x, temb=said), rtol=0, atol=CLOSE)
