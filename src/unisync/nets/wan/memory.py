"""What painting with a public model takes of a device, known before anything is loaded, and what to give up if it is too much.

The transformer is counted on the meta device; the autoencoder's part is a line through such counts of diffusers' classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import chain

import torch
from torch import Tensor

from unisync.errors import OptionError
from unisync.nets.count import Cost, count, weight_bytes
from unisync.nets.storage import store_fp8
from unisync.nets.transformer import Condition, Transformer
from unisync.nets.wan import multitalk, s2v
from unisync.nets.wan.families import CLIP_WIDTH, FAMILIES, TEXT_WIDTH, Family
from unisync.nets.wan.models import transformer_of
from unisync.options import Storage

TEXT_TOKENS, IMAGE_TOKENS = 512, 257
FILM_STRIDE, TILE = 4, 256
"""Film frames a latent frame; side of a tile that the autoencoder decodes at once, in pixels."""
RESERVE = 1.0e9
"""Bytes that the driver's context, the products' workspaces and the allocator's gaps take."""
LESS_FRAMES, LESS_CANVAS = (81, 61, 41, 21, 9, 5), (768, 512, 384, 256)


@dataclass(frozen=True)
class Work:
    """What is painted at once. canvas: side in pixels.  length: frames of film.  batch: guidance's branches side by side."""

    family: str
    canvas: int = 512
    length: int = 81
    batch: int = 1
    editing: bool = False

    @property
    def latent_frames(self) -> int:
        return -(-self.length // FILM_STRIDE)

    @property
    def tokens(self) -> int:
        """Tokens of a latent frame."""
        return (self.canvas // spatial_stride(FAMILIES[self.family]) // 2) ** 2

    @property
    def words(self) -> str:
        return f"{self.length} frames of {self.canvas} px"

    def check(self) -> None:
        """Raise OptionError if there is no such work."""
        step = 2 * spatial_stride(FAMILIES[self.family])
        if self.canvas < step or self.canvas % step:
            raise OptionError(
                f"canvas must be a multiple of {step} for {FAMILIES[self.family].title}, not {self.canvas}"
            )
        if self.length < FILM_STRIDE + 1:
            raise OptionError(f"a window has at least {FILM_STRIDE + 1} frames, not {self.length}")


@dataclass(frozen=True)
class Device:
    """What a device can do at best. flops: bf16 products with dense matrices.  Rates in bytes a second."""

    title: str
    flops: float
    bandwidth: float
    bus: float


DEVICES = {
    "h100": Device("H100 SXM", 989e12, 3.35e12, 55e9),
    "h200": Device("H200", 989e12, 4.8e12, 55e9),
    "a100": Device("A100 SXM", 312e12, 2.04e12, 25e9),
    "l40s": Device("L40S", 362e12, 0.864e12, 25e9),
    "rtx4090": Device("RTX 4090", 165e12, 1.01e12, 25e9),
    "rtx3090": Device("RTX 3090", 71e12, 0.936e12, 25e9),
}
"""After the makers' data sheets; the bus is what copies from pinned memory reach over its PCIe."""


@dataclass(frozen=True)
class Plan:
    """How a network lies on a device. Sizes in bytes; `swapped` blocks lie in the host's memory until they are needed."""

    work: Work
    storage: Storage
    blocks: int
    swapped: int
    prefetch: int
    tiled: bool
    weights: int
    """Of the whole transformer."""
    block: int
    """Of its largest block."""
    autoencoder: int
    """Its weights."""
    activations: int
    """What a forward keeps at once."""
    decoding: int
    """What decoding a window keeps at once."""

    @property
    def resident(self) -> int:
        """Return the bytes of weights on the device: what stays, and the blocks that are used or under way."""
        slots = min(self.swapped, 1 + self.prefetch)
        return self.weights - (self.swapped - slots) * self.block + self.autoencoder

    @property
    def peak(self) -> int:
        """Return the most bytes that are taken at once."""
        return int(RESERVE) + self.resident + max(self.activations, self.decoding)

    @property
    def cost(self) -> Cost:
        """Return what a forward costs."""
        return _cost(FAMILIES[self.work.family], self.work, self.storage)

    @property
    def copied(self) -> int:
        """Return the bytes that come over the bus at each forward."""
        return self.swapped * self.block

    def seconds(self, device: Device) -> float:
        """Return the least time of a forward: copies run beside the products."""
        return max(self.cost.seconds(device.flops, device.bandwidth), self.copied / device.bus)

    @property
    def places(self) -> list[str]:
        """Lines for people on what lies where."""
        gigabytes = f"{self.peak / 1e9:.1f} GB at once"
        held = f"{self.swapped} of {self.blocks} blocks swapped" if self.swapped else f"all {self.blocks} blocks stay"
        tiled = f"in tiles of {TILE} px" if self.tiled else "whole"
        parts = (
            ("weights", self.resident - self.autoencoder),
            ("autoencoder", self.autoencoder),
            ("activations of the transformer", self.activations),
            (f"of the autoencoder ({tiled})", self.decoding),
            ("reserve", int(RESERVE)),
        )
        return [
            f"{self.work.words}: {gigabytes}; weights in {self.storage}, {held}",
            ", ".join(f"{name} {size / 1e9:.2f} GB" for name, size in parts),
        ]

    @property
    def lines(self) -> list[str]:
        """Lines for people on that, and on what a forward costs."""
        return [
            *self.places,
            f"a forward: {self.cost.flops / 1e12:.1f} TFLOP, {self.cost.moved / 1e9:.0f} GB read and written, "
            f"{self.copied / 1e9:.1f} GB over the bus",
            "at least " + ", ".join(f"{self.seconds(each):.2g} s on {each.title}" for each in DEVICES.values()),
        ]


def plan_memory(
    work: Work, vram: float | None = None, storage: Storage = "bf16", swapped: int | None = None, prefetch: int = 1
) -> Plan:
    """Return how to paint within so many bytes, giving up speed first: the autoencoder's tiles, then swapped blocks.

    vram: None for no limit.  swapped: number of blocks to swap at any rate.  Weights are never rounded unasked.
    Raises OptionError, which says what would fit, if that is not enough.
    """
    work.check()
    plan = _plan(work, storage, swapped or 0, prefetch)
    if vram is None or plan.peak <= vram:
        return plan
    plan = replace(plan, tiled=True, decoding=_decoding(work, tiled=True))
    if plan.peak > vram and swapped is None:
        missing = plan.peak - vram
        plan = replace(plan, swapped=min(plan.blocks, -(-int(missing) // plan.block) + 1 + prefetch))
    if plan.peak > vram:
        least = f"{plan.work.words} of {FAMILIES[work.family].title} in {storage} take {plan.peak / 1e9:.1f} GB"
        raise OptionError(f"{least}, more than the {vram / 1e9:.1f} there are; {_advice(plan, vram)}")
    return plan


def explain_oom(plan: Plan, there: float) -> OptionError:
    """Return what to say when the device ran out of memory for all the plan. there: bytes that we could have had."""
    said = f"out of memory: {plan.work.words} were planned to take {plan.peak / 1e9:.1f} GB of {there / 1e9:.1f}"
    less = 0.9 * min(there, plan.peak)
    try:
        fitting = plan_memory(plan.work, less, plan.storage, prefetch=plan.prefetch)
    except OptionError:
        return OptionError(f"{said}; {_advice(plan, less)}")
    return OptionError(f"{said}; take --vram {less / 1e9:.1f}, which swaps {fitting.swapped} of {plan.blocks} blocks")


def example(net: Transformer, work: Work) -> tuple[Tensor, Tensor, Condition]:
    """Return noisy latents, their level and a condition of the sizes that a network is given, of zeros."""
    family, config, batch, num = FAMILIES[work.family], net.config, work.batch, work.latent_frames
    side = work.canvas // spatial_stride(family)

    dtype = net.head.head.weight.dtype

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(batch, *shape, dtype=dtype)

    z = zeros(config.channels, num, side, side)
    audio = {
        None: None,
        "k_proj": (2 * work.length, config.audio_width),
        "audio_cross_attn": (num, multitalk.LATER * multitalk.STATES, config.audio_width),
        "audio_injector": (num, s2v.FILM_FRAMES * s2v.STATES, config.audio_width),
        "audio_attn": (num, 8, config.audio_width),
    }[family.audio]
    beside = {"audio_injector": 1, "audio_attn": num}.get(family.audio or "", 0)
    condition = Condition(
        source=torch.zeros_like(z),
        seconds=torch.zeros(batch, num),
        pose=torch.zeros_like(z) if work.editing or family.pose else None,
        audio=zeros(*audio) if audio else None,
        text=zeros(TEXT_TOKENS, TEXT_WIDTH),
        image=zeros(IMAGE_TOKENS, CLIP_WIDTH) if family.clip else None,
        extra=zeros(config.extra, num, side, side) if config.extra else None,
        reference=zeros(config.channels, beside, side, side) if beside else None,
    )
    return z, torch.zeros(batch), condition


def count_forward(net: Transformer, work: Work) -> Cost:
    """Return what a forward costs, on whatever device is torch's own at the moment."""
    z, sigma, condition = example(net, work)
    inputs = list(condition.tensors.values())
    return count(lambda: net(z, sigma, condition), chain(net.parameters(), net.buffers(), [z, sigma, *inputs]))


def _net(family: Family, storage: Storage, editing: bool, layers: int | None = None) -> Transformer:
    """Return a family's network, of so many layers, on the meta device."""
    with torch.device("meta"):
        size = replace(family.size, layers=layers or family.size.layers)
        net = transformer_of(family.key, size, editing).to(torch.bfloat16)
    if storage == "fp8":
        store_fp8(net)
    return net


@cache
def _weights(family: Family, storage: Storage, editing: bool) -> tuple[int, int, int]:
    """Return the bytes of all weights and of the largest block, and the number of blocks."""
    net = _net(family, storage, editing)
    return weight_bytes(net), max(map(weight_bytes, net.blocks)), len(net.blocks)


@cache
def _cost(family: Family, work: Work, storage: Storage, layers: int | None = None) -> Cost:
    with torch.device("meta"):
        return count_forward(_net(family, storage, work.editing, layers), work)


def _plan(work: Work, storage: Storage, swapped: int, prefetch: int) -> Plan:
    family = FAMILIES[work.family]
    weights, block, blocks = _weights(family, storage, work.editing)
    return Plan(
        work=work,
        storage=storage,
        blocks=blocks,
        swapped=min(swapped, blocks),
        prefetch=prefetch,
        tiled=False,
        weights=weights,
        block=block,
        autoencoder=AUTOENCODERS[family.size.latents].weights,
        activations=_cost(family, work, storage, layers=2).peak,  # further blocks keep nothing more
        decoding=_decoding(work, tiled=False),
    )


@dataclass(frozen=True)
class _Autoencoder:
    """Numbers kept at once while a picture of so many pixels is decoded: (base + slope * frames) a pixel."""

    weights: int
    base: float
    slope: float


BYTES = 2
AUTOENCODERS = {16: _Autoencoder(253_785_062, 5060, 3.1), 48: _Autoencoder(1_409_377_336, 5381, 3.1)}
"""Of Wan2.1 and Wan2.2 in bf16, counted at 5 to 81 frames of 256 and 512 px: 1 % below to 14 % above the count."""


def _decoding(work: Work, tiled: bool) -> int:
    kind = AUTOENCODERS[FAMILIES[work.family].size.latents]
    side = min(work.canvas, TILE) if tiled else work.canvas
    kept = side**2 * (kind.base + kind.slope * work.length)
    if side < work.canvas:  # the tiles that are done, and the picture that is laid of them
        kept += TILED * 3 * work.length * work.canvas**2
    return round(BYTES * kept)


TILED = 4.0


def _advice(plan: Plan, vram: float) -> str:
    """Return what would fit, of all things that can be given up the first."""
    work = plan.work
    kinds: tuple[Storage, ...] = ("bf16", "fp8") if plan.storage == "bf16" else ("fp8",)
    for canvas in [work.canvas, *(side for side in LESS_CANVAS if side < work.canvas)]:
        for frames in [work.length, *(num for num in LESS_FRAMES if num < work.length)]:
            for kind in kinds:
                less = replace(work, canvas=canvas, length=frames)
                tried = replace(_plan(less, kind, 10**6, plan.prefetch), tiled=True, decoding=_decoding(less, True))
                if tried.peak <= vram:
                    return f"{less.words} in {kind} would fit"
    return f"no window of this model does; it needs a device of {tried.peak / 1e9:.1f} GB"


def spatial_stride(family: Family) -> int:
    """Return the autoencoder's stride in space."""
    return 16 if family.size.latents == 48 else 8


def storage_of(precision: str) -> Storage:
    """Return how a file's weights lie in memory if nobody says: as there, if that is fp8, else bf16."""
    return "fp8" if precision.startswith("fp8") else "bf16"
