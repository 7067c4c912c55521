"""A large public model as a backbone."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from unisync.backbones.base import Geometry, Guide, Told
from unisync.backbones.wan import together
from unisync.backbones.wan.encoding import Encoders, geometry_of
from unisync.backbones.wan.habits import USAGE, taught_habits
from unisync.backbones.wan.parts import Parts, gather
from unisync.nets.precision import computes_bf16
from unisync.nets.storage import FP8
from unisync.nets.transformer import Condition, Transformer
from unisync.nets.wan.editing import apply_editing
from unisync.nets.wan.memory import Plan, Work, explain_oom, plan_memory, storage_of
from unisync.nets.wan.models import load_transformer
from unisync.nets.wan.settle import settle
from unisync.options import DubOptions

LOG = logging.getLogger("unisync.backbones")


class Wan(Encoders):
    """Any family of `nets.wan.families`, steered by sound and text alone. Raises UnisyncError if its parts do not fit."""

    lips = None

    def __init__(self, options: DubOptions) -> None:
        parts = gather(options)
        super().__init__(parts, options)
        usage = USAGE[self.family.key]
        self.habits = taught_habits(usage.habits) if parts.taught else usage.habits
        self.guides = usage.guides if parts.text else tuple(_textless(usage.guides))
        self.plan = _plan(parts, options, self.geometry, self.device)
        if self.plan.tiled:
            self.vae.tile()
        if together.LEADS.get():
            together.begin(self.plan.work, options)
        self.transformer = _laid(parts, self.plan, self.device, options)
        self.forward = together.Shared(self.transformer) if together.LEADS.get() else self.transformer
        self.facts: Mapping[str, Any] = {
            "backbone": self.family.title,
            "licence": self.family.licence,
            "parts": list(parts.lines),
            "memory": self.plan.places,
        }
        if self.family.audio is None:
            LOG.warning("%s hears no speech: lips do not follow it; --adapter lets some models hear", self.family.title)
        if parts.text is None:
            LOG.warning("%s is given no text, as --text zero asks", self.family.title)

    @classmethod
    def from_options(cls, options: DubOptions) -> Wan:
        """Return the backbone that the options ask for; sets the number of torch's threads if they say one."""
        if options.threads:
            torch.set_num_threads(options.threads)
        return cls(options)

    def velocities(
        self, z: Tensor, sigma: float, condition: Condition, told: Sequence[frozenset[Told]]
    ) -> list[Tensor]:
        return [self.velocity(z, sigma, self._less(condition, each)) for each in told]

    @torch.no_grad()
    def velocity(self, z: Tensor, sigma: float, condition: Condition) -> Tensor:
        """Return the velocity (1, C, F', h, w) at noise level sigma."""
        level = torch.full((len(z),), sigma, device=z.device)
        # What comes in decides in which precision norms and sums are kept; autocast would keep them in float32.
        dtype = self.transformer.head.head.weight.dtype
        try:
            out: Tensor = self.forward(z.to(dtype), level, _in(dtype, condition))
        except torch.OutOfMemoryError as error:
            raise explain_oom(self.plan, _free(self.device) + torch.cuda.memory_reserved(self.device)) from error
        return out.float()

    def _less(self, condition: Condition, told: frozenset[Told]) -> Condition:
        """Return the condition without what is not told, if a link of guidance is to tell it."""
        every = {each for guide in self.guides for each in guide.tells} - told
        if "audio" in every:
            condition = replace(condition, keep_audio=torch.zeros(1, device=self.device))
        if "text" in every:
            condition = replace(condition, text=self.text.negative.to(self.device))
        if "reference" in every and condition.reference is not None:
            condition = replace(condition, reference=torch.zeros_like(condition.reference))
        return condition


def follow(options: DubOptions) -> None:
    """Take part in what the first of several processes paints with a public model, until it is done."""
    device = together.join(options)
    if together.received() == together.BEGIN:
        parts = gather(options)
        plan = _plan(parts, options, geometry_of(parts, options), device)
        together.take_part(_laid(parts, plan, device, options), device)
    torch.distributed.destroy_process_group()


def _in(dtype: torch.dtype, condition: Condition) -> Condition:
    """Return a condition in a network's precision, but for its moments."""
    given = {name: value for name, value in condition.tensors.items() if name != "seconds"}
    return replace(condition, **{name: value.to(dtype) for name, value in given.items()})


def _plan(parts: Parts, options: DubOptions, geometry: Geometry, device: torch.device) -> Plan:
    """Return how the transformer lies on the device. Raises OptionError, which says what would fit, if it cannot."""
    work = Work(parts.family.key, geometry.canvas, geometry.length, editing=parts.taught is not None)
    there = options.vram * 1e9 if options.vram else _free(device) if device.type == "cuda" else None
    own = storage_of(parts.files.precision) if computes_bf16(device.type) else "bf16"
    return plan_memory(work, there, options.storage or own)


def _laid(parts: Parts, plan: Plan, device: torch.device, options: DubOptions) -> Transformer:
    """Return the network on its device, ready to paint."""
    network = _loaded(parts, plan, device)
    settle(network, plan, device, options)
    return network.eval().requires_grad_(False)


def _loaded(parts: Parts, plan: Plan, device: torch.device) -> Transformer:
    """Return the network, in the host's memory if blocks are to stay there.

    What was taught is laid over matrices as they were while it was learnt; they are rounded to fp8, if at all, afterwards.
    """
    dtype = torch.float32
    if computes_bf16(device.type):
        dtype = FP8 if plan.storage == "fp8" and not parts.taught else torch.bfloat16
    place = "cpu" if plan.swapped or (parts.taught and plan.storage == "fp8") else device
    net = load_transformer(
        parts.files, parts.adapter, dtype, place, editing=parts.taught is not None, loras=parts.loras
    )
    if parts.taught:
        apply_editing(net, parts.family.key, parts.taught.path)
    return net


def _free(device: torch.device) -> float:
    """Return the bytes that are free on a CUDA device."""
    return float(torch.cuda.mem_get_info(device)[0])


def _textless(guides: Sequence[Guide]) -> list[Guide]:
    """Return what guidance is left where there is no text."""
    less = (replace(guide, tells=guide.tells - {"text"}) for guide in guides)
    return [guide for guide in less if guide.tells]
