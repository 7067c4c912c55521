"""Memory plans: what they promise is what the networks take, and what is too much is said with what would fit."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
import torch

from unisync.errors import OptionError
from unisync.nets.count import count, weight_bytes
from unisync.nets.wan.families import FAMILIES, Size, whole_shapes
from unisync.nets.wan.memory import (
    AUTOENCODERS,
    DEVICES,
    RESERVE,
    Device,
    Work,
    explain_oom,
    plan_memory,
    storage_of,
)
from unisync.options import Storage

T2V = "wan2.1-t2v-14b"
SMALL = Work(T2V, canvas=256, length=9)
GB = 1e9


@pytest.mark.parametrize("key", FAMILIES)
def test_weights_are_those_of_the_published_file(key: str) -> None:
    plan = plan_memory(replace(SMALL, family=key, canvas=128, length=5))
    numbers = sum(torch.Size(shape).numel() for shape in whole_shapes(key).values())
    table = 4 * 100 * 1536 if key == "x-dub-5b" else 0  # positions, a buffer
    assert plan.weights == pytest.approx(2 * numbers, abs=2 * table)
    assert plan.blocks == FAMILIES[key].size.layers and plan.blocks * plan.block < plan.weights


def test_without_a_limit_all_stays() -> None:
    plan = plan_memory(SMALL)
    assert (plan.swapped, plan.tiled, plan.copied) == (0, False, 0)
    assert plan.peak == plan.weights + plan.autoencoder + RESERVE + max(plan.activations, plan.decoding)
    assert 28.5 * GB < plan.weights < 28.7 * GB


def test_blocks_are_swapped_as_far_as_needed_and_no_further() -> None:
    plan = plan_memory(SMALL, 24 * GB)
    assert 0 < plan.swapped < 40 and plan.peak <= 24 * GB
    assert replace(plan, swapped=plan.swapped - 1).peak > 24 * GB
    assert plan.copied == plan.swapped * plan.block
    every = plan_memory(SMALL, 6 * GB)
    assert every.peak <= 6 * GB < every.weights
    # What is on the device: all that is no block, the blocks that stay, and the two that are used and under way.
    rest = plan.weights - 40 * plan.block
    assert plan.resident == rest + (40 - plan.swapped + 2) * plan.block + plan.autoencoder


def test_fp8_is_half_as_large_and_never_taken_unasked() -> None:
    whole, half = plan_memory(SMALL), plan_memory(SMALL, storage="fp8")
    assert 0.5 < half.weights / whole.weights < 0.52
    assert half.activations > whole.activations  # a matrix at a time is spread out
    assert plan_memory(SMALL, 20 * GB).storage == "bf16"
    assert (storage_of("fp8-scaled"), storage_of("fp8"), storage_of("gguf-Q8_0"), storage_of("bf16")) == (
        "fp8",
        "fp8",
        "bf16",
        "bf16",
    )


def test_what_the_network_keeps_does_not_grow_with_its_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    family = FAMILIES["wan2.2-s2v-14b"]
    monkeypatch.setitem(FAMILIES, "deep", replace(family, key="deep", size=Size(256, 7, 512, 16)))
    for storage in get_args(Storage):
        plan = plan_memory(Work("deep", canvas=128, length=9), storage=storage)
        assert plan.cost.peak == plan.activations


def test_what_decoding_keeps_is_what_the_autoencoder_keeps() -> None:
    diffusers = pytest.importorskip("diffusers")
    with torch.device("meta"):
        vae = diffusers.AutoencoderKLWan().to(torch.bfloat16)
        z = torch.zeros(1, 16, 3, 8, 8, dtype=torch.bfloat16)
        real = count(lambda: vae.decode(z), [z, *vae.parameters(), *vae.buffers()]).peak
    assert AUTOENCODERS[16].weights == weight_bytes(vae)
    plan = plan_memory(Work("wan2.1-t2v-1.3b", canvas=64, length=9))
    assert 0.95 < real / plan.decoding < 1.05


def test_too_little_says_what_would_fit() -> None:
    for limit in (5.0, 4.2):
        with pytest.raises(OptionError, match="would fit") as caught:
            plan_memory(Work("multitalk", canvas=512, length=81), limit * GB)
        words = str(caught.value).rpartition("; ")[2].split()
        less = Work("multitalk", canvas=int(words[3]), length=int(words[0]))
        assert plan_memory(less, limit * GB, words[6]).peak <= limit * GB  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="needs a device of"):
        plan_memory(SMALL, 1 * GB)
    with pytest.raises(OptionError, match="more than the 6"):
        plan_memory(SMALL, 6 * GB, swapped=3)


def test_out_of_memory_names_the_setting_that_fits() -> None:
    said = str(explain_oom(plan_memory(SMALL), 24 * GB))
    assert said.startswith("out of memory: 9 frames of 256 px were planned to take 3") and "--vram 21.6" in said
    fitting = plan_memory(SMALL, 21.6 * GB)
    assert f"swaps {fitting.swapped} of 40 blocks" in said
    assert "fit" in str(explain_oom(plan_memory(Work("multitalk"), 7 * GB), 4.2 * GB))


def test_time_is_bound_by_products_or_by_copies() -> None:
    plan = plan_memory(SMALL, 24 * GB)
    fast, slow = (Device("x", 1e15, 1e15, bus) for bus in (1e15, 1e9))
    assert plan.seconds(slow) == pytest.approx(plan.copied / 1e9)
    assert plan.seconds(fast) == pytest.approx(plan.cost.flops / 1e15, rel=0.2)
    assert plan.seconds(DEVICES["h100"]) >= plan.cost.flops / DEVICES["h100"].flops


def test_work_that_cannot_be_is_refused() -> None:
    for work in (Work(T2V, canvas=250), Work(T2V, length=3), Work("x-dub-5b", canvas=272)):
        with pytest.raises(OptionError):
            plan_memory(work)
