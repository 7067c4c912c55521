"""A public model so small that it runs at once, with weights that all say something."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from unisync.nets.transformer import Condition, Transformer
from unisync.nets.wan.families import FAMILIES, Size
from unisync.nets.wan.memory import Work, example
from unisync.nets.wan.models import transformer_of

T2V = "wan2.1-t2v-1.3b"


def network(key: str = T2V, layers: int = 2, editing: bool = False) -> Transformer:
    """Return a network of random weights."""
    torch.manual_seed(0)
    net = transformer_of(key, Size(256, layers, 512, FAMILIES[key].size.latents), editing)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.05)
    return net.eval()


def given(net: Transformer, key: str = T2V, seed: int = 1) -> tuple[Tensor, Condition]:
    """Return random noisy latents and a random condition: three latent frames of 64 tokens for models of 16 channels."""
    torch.manual_seed(seed)
    z, _, condition = example(net, Work(key, canvas=128, length=9, editing=net.config.editing))
    drawn = {name: torch.randn_like(value) for name, value in condition.tensors.items()}
    text = torch.randn(1, 3, net.config.text_width)
    seconds = torch.arange(z.shape[2])[None] / net.config.positions_per_second
    return torch.randn_like(z), replace(condition, **{**drawn, "text": text, "seconds": seconds})


@torch.no_grad()
def painted(net: Transformer, seed: int = 1, key: str = T2V, sigma: float = 0.6) -> Tensor:
    """Return what a network makes of `given`."""
    z, condition = given(net, key, seed)
    return net(z, torch.tensor([sigma]), condition)
