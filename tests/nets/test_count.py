"""Counted costs against torch's own account of memory and closed formulas."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from unisync.nets.count import SCORE_BYTES, count, weight_bytes
from unisync.nets.transformer import Transformer
from unisync.nets.wan.families import FAMILIES, Size
from unisync.nets.wan.memory import Work, count_forward, example
from unisync.nets.wan.models import transformer_of

KEYS = [key for key in FAMILIES if key not in ("wan2.1-t2v-14b", "wan2.2-i2v-a14b", "wan2.2-ti2v-5b")]


def small(key: str, layers: int = 2) -> tuple[Transformer, Work]:
    return transformer_of(key, Size(256, layers, 1024, FAMILIES[key].size.latents)), Work(key, canvas=128, length=17)


def allocated(run: Callable[[], Any]) -> int:
    """Return the most bytes that torch's allocator had given out at once."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen, torch.no_grad():
        run()
    assert seen.profiler is not None
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


@pytest.mark.parametrize("key", ["wan2.1-i2v-14b", "wan2.2-s2v-14b", "x-dub-5b"])
def test_memory_is_what_the_allocator_gives_out(key: str) -> None:
    net, work = small(key)
    net.eval()
    real = allocated(lambda: net(*example(net, work)))
    with torch.device("meta"):
        counted = count_forward(small(key)[0], work).peak
    inputs = sum(value.nbytes for value in example(net, work)[2].tensors.values())
    assert counted <= real <= (counted + inputs) * 1.05  # the allocator's account has the inputs too


def test_a_linear_layer_costs_what_it_says() -> None:
    with torch.device("meta"):
        layer, x = nn.Linear(48, 80), torch.zeros(10, 48)
        cost = count(lambda: layer(x), [*layer.parameters(), x])
    read = (48 * 80 + 80 + 10 * 48) * 4
    assert cost.flops == 2 * 10 * 48 * 80 and cost.peak == 10 * 80 * 4 and cost.moved == read + cost.peak
    assert weight_bytes(layer) == (48 * 80 + 80) * 4
    assert cost.seconds(flops=1e3, bandwidth=1e9) == pytest.approx(76.8)
    assert cost.seconds(flops=1e12, bandwidth=1e3) == pytest.approx(cost.moved / 1e3)


def test_attention_is_taken_as_fused() -> None:
    with torch.device("meta"):
        q = torch.zeros(1, 4, 1000, 64)
        cost = count(lambda: nn.functional.scaled_dot_product_attention(q, q, q), [q])
    assert cost.flops == 2 * 2 * 4 * 1000 * 1000 * 64
    assert cost.peak == q.nbytes + 4 * 1000 * SCORE_BYTES


@pytest.mark.parametrize("key", KEYS)
def test_flops_are_those_of_torchs_own_counter(key: str) -> None:
    with torch.device("meta"):
        net, work = small(key)
        mine = count_forward(net, work).flops
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net(*example(net, work))
    assert mine == counter.get_total_flops() > 1e9


def test_flops_are_those_of_the_formula() -> None:
    with torch.device("meta"):
        net, work = small("wan2.1-t2v-1.3b", layers=3)
        counted = count_forward(net, work).flops
    d, ffn, text, frames = 256, 1024, 512, 5
    n = frames * 8 * 8
    attention = 4 * n * d * d + 2 * n * n * d
    reading = 2 * (n + text) * d * d + 2 * n * text * d
    block = attention + reading + 2 * n * d * ffn
    rest = n * d * 4 * (16 + 16) + text * (4096 * d + d * d) + 256 * d + d * d + frames * 6 * d * d
    assert counted == 2 * (3 * block + rest)


def test_nothing_is_left_when_all_is_freed() -> None:
    kept: list[torch.Tensor] = []
    with torch.device("meta"):
        x = torch.zeros(100)
        once = count(lambda: x + 1, [x])
        assert count(lambda: [x + 1 for _ in range(3)], [x]).peak == 3 * once.peak
        assert count(lambda: [(x + 1).sum() for _ in range(3)], [x]).peak == once.peak + 3 * 4
        assert count(lambda: kept.extend(chain([x.view(10, 10)], [x[3:]])), [x]).peak == 0  # views
