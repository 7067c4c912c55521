"""A large public model's parts but its transformer: latents and back, and all that a window's network is told.

Dubbing lays the transformer beside them (`backbone`); the windows that training learns from are made by them alone.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from unisync.backbones.base import Geometry, Given
from unisync.backbones.device import device_of
from unisync.backbones.speech_encoders import Encoder, Heard, encoder_of, listen
from unisync.backbones.text import read_text
from unisync.backbones.wan.habits import USAGE
from unisync.backbones.wan.hearing import condition_of
from unisync.backbones.wan.parts import Parts
from unisync.backbones.wan.seeing import Clip, image_condition
from unisync.errors import OptionError
from unisync.nets.transformer import Condition
from unisync.nets.wan.memory import spatial_stride
from unisync.nets.wan.vae import TEMPORAL_STRIDE, WanVae
from unisync.options import DubOptions
from unisync.types import Pixels, Sound


class Encoders:
    """Any family's autoencoder, ears, eyes and text. Raises UnisyncError if one is damaged."""

    def __init__(self, parts: Parts, options: DubOptions) -> None:
        self.parts, self.family = parts, parts.family
        self.device = torch.device(device_of(options.device))
        self.vae = WanVae(parts.vae, self.device)
        self.geometry = geometry_of(parts, options)
        if options.vae_tiling:
            self.vae.tile()
        self.rate = USAGE[parts.family.key].rate
        self.text = read_text(parts.text)
        self.encoders: tuple[Encoder, ...] = tuple(encoder_of(folder, needs) for folder, needs in parts.encoders)
        self.clip = Clip(parts.image_encoder) if parts.image_encoder else None

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
        if self.family.channels_in > self.family.size.latents:
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

    def _pictures(self, pixels: Pixels) -> Tensor:
        """Return float32 (1, 3, F, S, S) in [-1, 1] of canvases uint8 (F, S, S, 3)."""
        x = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device).float() / 127.5 - 1
        return x.permute(3, 0, 1, 2)[None]


def geometry_of(parts: Parts, options: DubOptions) -> Geometry:
    """Return the sizes that the options ask for, else those taught, else the family's own. Raises OptionError."""
    usage, taught, stride = USAGE[parts.family.key], parts.taught, spatial_stride(parts.family)
    length = options.length or (taught.length if taught else 0) or usage.length
    canvas = options.canvas or (taught.canvas if taught else 0) or usage.canvas
    return Geometry(
        canvas=_canvas(canvas, 2 * stride, parts),
        length=length,
        channels=parts.family.size.latents,
        spatial_stride=stride,
        temporal_stride=TEMPORAL_STRIDE,
        overlap=min(usage.overlap, TEMPORAL_STRIDE * ((length - 1) // (2 * TEMPORAL_STRIDE)) + 1),
    )


def _canvas(side: int, unit: int, parts: Parts) -> int:
    """Return the canvas's side if it can be divided into tokens. Raises OptionError."""
    if side % unit:
        near = max(unit, round(side / unit) * unit)
        raise OptionError(f"canvas must be a multiple of {unit} for {parts.family.title}, such as {near}, not {side}")
    return side
