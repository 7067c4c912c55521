"""A large public model as a backbone."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unisync.backbones.base import Geometry, Given, Guide, Told
from unisync.backbones.device import device_of
from unisync.backbones.wan.habits import USAGE
from unisync.backbones.wan.hearing import Encoder, Heard, condition_of, encoder_of, listen
from unisync.backbones.wan.parts import Parts, gather
from unisync.backbones.wan.seeing import Clip, image_condition
from unisync.backbones.wan.text import read_text
from unisync.errors import OptionError
from unisync.nets.precision import autocast, computes_bf16
from unisync.nets.storage import FP8
from unisync.nets.transformer import Condition, Transformer
from unisync.nets.wan.memory import Plan, Work, explain_oom, plan_memory, storage_of
from unisync.nets.wan.models import load_transformer
from unisync.nets.wan.settle import settle
from unisync.nets.wan.vae import TEMPORAL_STRIDE, WanVae
from unisync.options import DubOptions
from unisync.types import Pixels, Sound

LOG = logging.getLogger("unisync.backbones")


class Wan:
    """Any family of `nets.wan.families`, steered by sound and text alone. Raises UnisyncError if its parts do not fit."""

    lips = None

    def __init__(self, options: DubOptions) -> None:
        parts = gather(options)
        self.device = torch.device(device_of(options.device))
        self.family, usage = parts.family, USAGE[parts.family.key]
        self.habits, self.rate = usage.habits, usage.rate
        vae = WanVae(parts.vae, self.device)
        length = options.length or usage.length
        self.geometry = Geometry(
            canvas=_canvas(options.canvas or usage.canvas, 2 * vae.spatial_stride, parts),
            length=length,
            channels=vae.channels,
            spatial_stride=vae.spatial_stride,
            temporal_stride=TEMPORAL_STRIDE,
            overlap=min(usage.overlap, TEMPORAL_STRIDE * ((length - 1) // (2 * TEMPORAL_STRIDE)) + 1),
        )
        self.plan = _plan(parts, options, self.geometry, self.device)
        if options.vae_tiling or self.plan.tiled:
            vae.tile()
        self.vae = vae
        self.text = read_text(parts.text)
        self.guides = usage.guides if parts.text else tuple(_textless(usage.guides))
        self.encoders: tuple[Encoder, ...] = tuple(encoder_of(folder, needs) for folder, needs in parts.encoders)
        self.clip = Clip(parts.image_encoder) if parts.image_encoder else None
        self.transformer = _loaded(parts, self.plan, self.device)
        settle(self.transformer, self.plan, self.device, options)
        self.transformer.eval().requires_grad_(False)
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

    def encode(self, pixels: Pixels) -> Tensor:
        return self.vae.encode(self._pictures(pixels))

    def decode(self, z: Tensor) -> Pixels:
        x = ((self.vae.decode(z)[0].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return np.ascontiguousarray(x.permute(1, 2, 3, 0).cpu().numpy())

    def listen(self, sound: Sound) -> Heard | None:
        return listen(self.encoders, sound, self.device) if self.encoders else None

    def condition(self, given: Given, speech: Heard | None) -> Condition:
        window, audio, extra, image, reference = given.window, None, None, None, None
        if self.family.audio is not None and speech is not None:
            audio = condition_of(self.family.audio, speech, window.seconds, self.rate).to(self.device)
        if self.transformer.config.extra:
            first = window.pixels[:1] if given.before is None else given.before[:1]
            picture = self._pictures(first)[:, :, 0]
            extra = image_condition(picture, len(window), self.vae.encode)
            image = self.clip(picture) if self.clip else None
        if self.family.audio == "audio_injector":
            reference = self.encode(window.pixels[:1] if window.reference is None else window.reference.pixels[None])
        elif self.family.audio == "audio_attn":
            reference = given.source
        moments = torch.from_numpy(window.seconds - window.seconds[0]).float()
        return Condition(
            source=given.source,
            seconds=moments[None, ::TEMPORAL_STRIDE].to(
                self.device
            ),  # a latent frame is as late as its last film frame
            pose=given.pose,
            audio=audio,
            text=self.text.prompt.to(self.device),
            image=image,
            extra=extra,
            reference=reference,
        )

    def velocities(
        self, z: Tensor, sigma: float, condition: Condition, told: Sequence[frozenset[Told]]
    ) -> list[Tensor]:
        return [self.velocity(z, sigma, self._less(condition, each)) for each in told]

    @torch.no_grad()
    def velocity(self, z: Tensor, sigma: float, condition: Condition) -> Tensor:
        """Return the velocity (1, C, F', h, w) at noise level sigma."""
        level = torch.full((len(z),), sigma, device=z.device)
        try:
            with autocast(self.device):
                out: Tensor = self.transformer(z, level, condition)
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

    def _pictures(self, pixels: Pixels) -> Tensor:
        """Return float32 (1, 3, F, S, S) in [-1, 1] of canvases uint8 (F, S, S, 3)."""
        x = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device).float() / 127.5 - 1
        return x.permute(3, 0, 1, 2)[None]


def _plan(parts: Parts, options: DubOptions, geometry: Geometry, device: torch.device) -> Plan:
    """Return how the transformer lies on the device. Raises OptionError, which says what would fit, if it cannot."""
    work = Work(parts.family.key, geometry.canvas, geometry.length)
    there = options.vram * 1e9 if options.vram else _free(device) if device.type == "cuda" else None
    own = storage_of(parts.files.precision) if computes_bf16(device.type) else "bf16"
    return plan_memory(work, there, options.storage or own)


def _loaded(parts: Parts, plan: Plan, device: torch.device) -> Transformer:
    """Return the network, in the host's memory if blocks are to stay there."""
    dtype = torch.float32
    if computes_bf16(device.type):
        dtype = FP8 if plan.storage == "fp8" else torch.bfloat16
    place = "cpu" if plan.swapped else device
    return load_transformer(parts.files, parts.adapter, dtype=dtype, device=place, loras=parts.loras)


def _free(device: torch.device) -> float:
    """Return the bytes that are free on a CUDA device."""
    return float(torch.cuda.mem_get_info(device)[0])


def _canvas(side: int, unit: int, parts: Parts) -> int:
    """Return the canvas's side if it can be divided into tokens. Raises OptionError."""
    if side % unit:
        near = max(unit, round(side / unit) * unit)
        raise OptionError(f"canvas must be a multiple of {unit} for {parts.family.title}, such as {near}, not {side}")
    return side


def _textless(guides: Sequence[Guide]) -> list[Guide]:
    """Return what guidance is left where there is no text."""
    less = (replace(guide, tells=guide.tells - {"text"}) for guide in guides)
    return [guide for guide in less if guide.tells]
