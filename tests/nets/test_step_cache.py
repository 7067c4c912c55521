"""Cached steps stay near to the true ones, the nearer the smaller the threshold, and never mix windows or branches."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from small_wan import given, network
from unisync import flow
from unisync.nets.step_cache import StepCache, distance
from unisync.nets.transformer import Condition, Transformer

KEY = "wan2.1-t2v-1.3b"
STEPS = 12


@torch.no_grad()
def sampled(net: Transformer, seed: int = 1, guided: bool = True) -> Tensor:
    """Return latents after all steps, guided by the text or not."""
    z, condition = given(net, KEY, seed)

    def velocity(x: Tensor, sigma: float) -> Tensor:
        def told(each: Condition) -> Tensor:
            return net(x, torch.tensor([sigma]), each)

        full = told(condition)
        if not guided:
            return full
        less = told(replace(condition, text=torch.zeros_like(condition.text)))  # type: ignore[arg-type]
        return less + 3 * (full - less)

    for now, then in zip((levels := flow.schedule(STEPS)), levels[1:], strict=False):
        z = flow.euler(z, velocity(z, now), now, then)
    return z


def test_the_error_falls_with_the_threshold_and_nothing_is_saved_at_none() -> None:
    net = network(KEY)
    wanted = sampled(net)
    errors, saved = [], []
    for threshold in (0.0, 1.2, 3.0):
        net.passages.clear()
        cache = StepCache(net, threshold)
        errors.append(distance(sampled(net), wanted))
        saved.append(cache.saved)
        assert cache.ran + cache.saved == 2 * STEPS
    assert (errors[0], saved[0]) == (0.0, 0)
    assert 0 < errors[1] < errors[2] and 0 < saved[1] < saved[2]
    assert errors[1] < 0.1, f"relative distance {errors}, forwards saved {saved} of {2 * STEPS}"


def test_windows_and_branches_have_streams_of_their_own() -> None:
    net = network(KEY)
    cache = StepCache(net, 1.5)
    alone = sampled(net, seed=2)
    first = cache.saved
    sampled(net, seed=1)
    assert torch.equal(sampled(net, seed=2), alone) and cache.saved == 3 * first
    assert len(cache._streams) == 2
    unguided = sampled(net, seed=2, guided=False)
    assert len(cache._streams) == 1 and not torch.equal(unguided, alone)


def test_what_was_kept_long_ago_is_not_taken() -> None:
    net = network(KEY)
    cache = StepCache(net, 10.0)
    z, condition = given(net, KEY)

    @torch.no_grad()
    def forward(sigma: float) -> None:
        net(z, torch.tensor([sigma]), condition)

    for sigma in (0.9, 0.9, 0.8, 0.7, 0.7):  # the second stream is not there at .8
        forward(sigma)
    assert (cache.ran, cache.saved) == (3, 2)
    forward(0.95)
    assert cache.ran == 4


def test_another_size_is_computed() -> None:
    net = network(KEY)
    cache = StepCache(net, 10.0)
    z, condition = given(net, KEY)
    short = {
        name: value[:, :, :2] if value.ndim == 5 else value[:, :2]
        for name, value in condition.tensors.items()
        if name != "text"
    }
    with torch.no_grad():
        net(z, torch.tensor([0.9]), condition)
        net(z[:, :, :2], torch.tensor([0.8]), replace(condition, **short))
    assert (cache.ran, cache.saved) == (2, 0)


def test_distance_is_relative() -> None:
    assert distance(torch.tensor([3.0, 4.4]), torch.tensor([3.0, 4.0])) == pytest.approx(0.08)
