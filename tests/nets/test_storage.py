"""fp8 matrices multiply as what they stand for, and are as near to the weights as four bits of mantissa allow."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from unisync.nets.count import weight_bytes
from unisync.nets.storage import FP8, Fp8Linear, rounded, store_fp8
from unisync.nets.wan.families import Size
from unisync.nets.wan.memory import Work, example
from unisync.nets.wan.models import transformer_of

KEY, SIZE = "wan2.1-i2v-14b", Size(256, 2, 512, 16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [True, False])
def test_it_gives_what_a_linear_layer_of_its_product_gives(dtype: torch.dtype, rows: bool) -> None:
    torch.manual_seed(0)
    weight, bias, x = torch.randn(24, 32).to(FP8), torch.randn(24).to(dtype), torch.randn(5, 32).to(dtype)
    scale = torch.rand(24 if rows else 1, 1) / 100
    like = nn.Linear(32, 24).to(dtype)
    like.load_state_dict({"weight": (weight.float() * scale).to(dtype), "bias": bias})
    layer = Fp8Linear(weight, scale, bias)
    assert torch.equal(layer(x), like(x))
    assert weight_bytes(layer) == 24 * 32 + len(scale) * 4 + 24 * dtype.itemsize


def test_small_rows_lose_no_more_than_large_ones() -> None:
    torch.manual_seed(0)
    weight = torch.randn(64, 512) * torch.logspace(-6, 2, 64)[:, None]
    weight[3] = 0
    kept, scale = rounded(weight)
    error = (kept.float() * scale - weight).norm(dim=1) / weight.norm(dim=1).clamp_min(1e-30)
    assert error.max() < 0.03 and not (kept.float() * scale)[3].any()
    plain = weight.to(FP8).float().sub(weight).norm(dim=1) / weight.norm(dim=1).clamp_min(1e-30)
    assert plain.max() > 0.9  # what a cast without scales does to them


@torch.no_grad()
def test_only_the_blocks_matrices_are_rounded() -> None:
    torch.manual_seed(0)
    net = transformer_of(KEY, SIZE).to(torch.bfloat16)
    nn.init.normal_(net.head.head.weight, std=0.02)
    z, sigma, condition = example(net, Work(KEY, canvas=64, length=9))
    torch.manual_seed(1)
    z, text = torch.randn_like(z), torch.randn_like(z.new_zeros(1, 512, 4096))
    condition = type(condition)(**{**vars(condition), "text": text})
    before, size = net(z, sigma + 0.5, condition), weight_bytes(net.blocks)
    store_fp8(net)
    after = net(z, sigma + 0.5, condition)
    assert weight_bytes(net.blocks) < 0.53 * size
    assert {name.rpartition(".")[0] for name, value in net.named_parameters() if value.dtype == FP8} == {
        name for name, module in net.named_modules() if name.startswith("blocks") and isinstance(module, Fp8Linear)
    }
    error = ((after - before).float().norm() / before.float().norm()).item()
    assert 1e-4 < error < 0.05
    assert all(type(module) is not nn.Linear for module in net.blocks.modules())
