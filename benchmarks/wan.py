"""What a forward of large transformers costs, counted, and what it takes here with random weights.

Run: python benchmarks/wan.py [--canvas 512] [--length 81] [--attention flash] [--compile] [--only wan2.2-ti2v-5b]. The
first table is counted on the meta device. The second is measured on a GPU; `--dry-run` does so on any machine, with two
layers of each model. The peak of a device is what a large product of matrices reaches on it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from tables import header, line
from unisync.nets.precision import computes_bf16
from unisync.nets.transformer import Transformer
from unisync.nets.wan.families import FAMILIES
from unisync.nets.wan.memory import DEVICES, Plan, Work, count_forward, example, plan_memory
from unisync.nets.wan.models import transformer_of
from unisync.nets.wan.settle import settle
from unisync.options import AttentionKernel, DubOptions
from unisync.parse import fitted

MODELS = ("wan2.1-t2v-1.3b", "wan2.2-ti2v-5b", "wan2.1-t2v-14b")
COUNTED = ("model", "weights", "tokens", "TFLOP", "GB moved", "GB over the bus", "GB at once")
MEASURED = (
    "model",
    "weights",
    "layers",
    "seconds",
    "tokens a second",
    "TFLOP a second",
    "share of the peak",
    "GB at once",
)
LARGE, SMALL = 8192, 1024
"""Sides of the product whose speed is a device's peak, on a GPU and on a CPU."""
REPEATS = 3


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--canvas", type=int, default=512)
    parser.add_argument("--length", type=int, default=81)
    parser.add_argument("--only", choices=MODELS)
    parser.add_argument("--attention")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--dry-run", action="store_true", help="two layers, on whatever machine this is")
    given = parser.parse_args()
    kernel = fitted(AttentionKernel, given.attention, "attention") if given.attention else None
    options = DubOptions(backbone="wan", attention=kernel, compile=given.compile)
    works = [Work(key, given.canvas, given.length) for key in ([given.only] if given.only else MODELS)]
    print(header((*COUNTED, *(f"s on {device.title}" for device in DEVICES.values()))))
    for work in works:
        for plan in plans(work):
            print(line(counted(plan)), flush=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not given.dry_run:
        print("\nno GPU here: nothing measured; --dry-run measures two layers on the CPU")
        return
    peak = matrix_peak(device)
    print(f"\nthe peak of this {device.type} is {peak / 1e12:.2f} TFLOP/s in {dtype_of(device)}\n\n{header(MEASURED)}")
    for work in works:
        for plan in plans(work):
            print(line(measured(plan, options, device, peak, 2 if given.dry_run else None)), flush=True)


def plans(work: Work) -> Iterator[Plan]:
    """Yield the ways in which a model is laid out: whole, in fp8, and with half of its blocks swapped."""
    whole = plan_memory(work)
    yield whole
    yield plan_memory(work, storage="fp8")
    yield replace(whole, swapped=whole.blocks // 2)


def counted(plan: Plan) -> list[str | float]:
    """Return a row of the first table."""
    tokens = plan.work.latent_frames * plan.work.tokens
    sizes = [size / 1e9 for size in (plan.cost.moved, plan.copied, plan.peak)]
    seconds = [plan.seconds(device) for device in DEVICES.values()]
    return [*names(plan), str(tokens), plan.cost.flops / 1e12, *sizes, *seconds]


def measured(
    plan: Plan, options: DubOptions, device: torch.device, peak: float, layers: int | None
) -> list[str | float]:
    """Return a row of the second table, of a network of random weights. layers: fewer than the model has."""
    size = FAMILIES[plan.work.family].size
    size = replace(size, layers=layers or size.layers)
    dtype = dtype_of(device)
    with torch.device("meta"):
        net = transformer_of(plan.work.family, size).to(dtype)
        flops = count_forward(net, plan.work).flops
    plan = replace(plan, swapped=plan.swapped * size.layers // plan.blocks, blocks=size.layers)
    net = filled(net)
    settle(net, plan, device, options)
    with torch.device(device):
        z, sigma, condition = example(net, plan.work)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()

    @torch.no_grad()
    def forward() -> None:
        net(z, sigma, condition)

    seconds = timed(forward, device)
    tokens = plan.work.latent_frames * plan.work.tokens
    most = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else "–"
    return [
        *names(plan, dtype),
        str(size.layers),
        seconds,
        f"{tokens / seconds:.0f}",
        flops / seconds / 1e12,
        f"{100 * flops / seconds / peak:.0f} %",
        most,
    ]


def names(plan: Plan, dtype: torch.dtype = torch.bfloat16) -> list[str]:
    """Return the first two cells of a row: the model, and how its matrices lie."""
    half = f", {plan.swapped} of {plan.blocks} blocks swapped" if plan.swapped else ""
    word = "fp32" if plan.storage == "bf16" and dtype == torch.float32 else plan.storage
    return [FAMILIES[plan.work.family].title, f"{word}{half}"]


def dtype_of(device: torch.device) -> torch.dtype:
    """Return bf16 where the device computes in it."""
    return torch.bfloat16 if computes_bf16(device.type) else torch.float32


@torch.no_grad()
def filled(net: Transformer) -> Transformer:
    """Return a network of the meta device in the host's memory, its weights small and random."""
    net = net.to_empty(device="cpu").eval()
    for value in net.parameters():
        value.uniform_(-0.02, 0.02)
    return net


def matrix_peak(device: torch.device) -> float:
    """Return the flops a second of a large product."""
    side = LARGE if device.type == "cuda" else SMALL
    a = torch.ones(side, side, device=device, dtype=dtype_of(device))
    return 2 * side**3 / timed(lambda: a @ a, device)


def timed(run: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of the fastest run after a first one."""
    spent = []
    for _ in range(1 + REPEATS):
        begun = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        spent.append(time.perf_counter() - begun)
    return min(spent[1:])


if __name__ == "__main__":
    main()
