"""The embedded default: small enough for a CPU, its weights inside the package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unisync import flow
from unisync.audio.encoder import SpeechFeatures, encode_speech
from unisync.backbones.base import Geometry, Given, Guide, Habits, Lips, Told
from unisync.backbones.device import device_of
from unisync.backbones.speech_encoders import Encoder, Needs, check_encoder, encoder_of, listen
from unisync.backbones.text import ZERO, read_text
from unisync.errors import OptionError, WeightsError
from unisync.nets.audio import AudioConfig, AudioEncoder
from unisync.nets.lora import merge_lora, parse_lora
from unisync.nets.precision import autocast
from unisync.nets.transformer import Condition, Transformer, TransformerConfig
from unisync.nets.vae import FaceVae, VaeConfig
from unisync.nets.weights import fill, read_weights
from unisync.options import BACKBONE_PARTS, WEIGHTS_PARTS, DubOptions
from unisync.types import Pixels, Sound

KIND = "mini"
STRETCH = 2
"""Windows are painted so many times as long as those of the training: fewer frames are painted twice, and joins are rarer."""


def embedded_weights() -> Path:
    """Return where the shipped weights lie."""
    return Path(str(files("unisync") / "weights" / "mini.safetensors"))


LORAS = {"omnisync": "omnisync.safetensors"}
"""What is added to the shipped weights for a method that they were not trained for; it lies beside them."""


def files_of(options: DubOptions) -> tuple[Path, ...]:
    """Return the weights that options are dubbed with, and after them the shipped LoRA that belongs to the method.

    Weights that the options name are taken as they are.
    """
    if options.weights:
        return (Path(options.weights),)
    weights, lora = embedded_weights(), LORAS.get(options.method)
    return (weights,) if lora is None else (weights, weights.with_name(lora))


class Mini:
    """The embedded backbone. Raises WeightsError if a file is missing, damaged or of another kind.

    audio_encoder: folder of the speech encoder that weights hear with which have none of their own.
    text: a file that `encode_text` wrote, for weights that read; else they are told none.
    """

    guides = (Guide(frozenset({"audio"})),)
    facts: Mapping[str, Any] = MappingProxyType({})

    def __init__(
        self,
        path: Path | None = None,
        device: str = "cpu",
        *,
        audio_encoder: Path | None = None,
        text: Path | None = None,
    ) -> None:
        path = path or embedded_weights()
        tensors, spec = read_weights(path)
        if spec.get("kind") != KIND:
            raise WeightsError(f"{path}: weights of kind {spec.get('kind')!r}, this backbone needs {KIND!r}")
        self.device = torch.device(device)
        self.spec = spec
        self.vae = FaceVae(VaeConfig(**spec["vae"]))
        self.audio = AudioEncoder(AudioConfig(**_tuples(spec["audio"])))
        self.transformer = Transformer(TransformerConfig(**_tuples(spec["transformer"])))
        for part in ("vae", "audio", "transformer"):
            module = getattr(self, part)
            fill(module, tensors, part, path)
            module.eval().requires_grad_(False).to(self.device)
        self.encoder = _encoder(path, spec.get("hearing"), audio_encoder)
        self.text = _text(path, self.transformer.config, text)
        self.lips = Lips(self.audio.lip_mean, self.audio.lip_std, float(spec["lip_gain"]))
        self.habits = Habits(int(spec["steps"]))
        self.vae.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.cell = self.vae.config.stride * self.transformer.config.patch[1]
        self.geometry = Geometry(
            canvas=spec["canvas"],
            length=STRETCH * spec["length"],
            channels=self.vae.config.latent_channels,
            spatial_stride=self.vae.config.stride,
            temporal_stride=1,
            cell=self.cell,
        )

    @classmethod
    def from_options(cls, options: DubOptions) -> Mini:
        """Return the backbone that the options ask for; sets the number of torch's threads if they say one."""
        for name in BACKBONE_PARTS:
            if getattr(options, name) and name not in WEIGHTS_PARTS:
                raise OptionError(f"{name} goes with a public model, not with the embedded one; leave it out")
        if options.threads:
            torch.set_num_threads(options.threads)
        weights, *loras = files_of(options)
        made = cls(
            weights,
            device_of(options.device),
            audio_encoder=_path(options.audio_encoder),
            text=None if options.text == ZERO else _path(options.text),
        )
        if options.audio_encoder and made.encoder is None:
            raise OptionError(f"audio_encoder: {options.weights} hears with an encoder of its own; leave it out")
        networks = {"vae": made.vae, "audio": made.audio, "transformer": made.transformer}
        given = [parse_lora(text) for text in options.lora.split(",")] if options.lora else []
        for lora, scale in [*((path, 1.0) for path in loras), *given]:
            merge_lora(networks, lora, scale)
        return made

    @torch.no_grad()
    def encode(self, pixels: Pixels) -> Tensor:
        x = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        with autocast(self.device):
            z = self.vae.encode(x.contiguous(memory_format=torch.channels_last))
        return z.float().transpose(0, 1)[None]

    @torch.no_grad()
    def decode(self, z: Tensor) -> Pixels:
        with autocast(self.device):
            x = self.vae.decode(z[0].transpose(0, 1).contiguous(memory_format=torch.channels_last))
        x = ((x.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return np.ascontiguousarray(x.permute(0, 2, 3, 1).cpu().numpy())

    def listen(self, sound: Sound) -> SpeechFeatures:
        speech = encode_speech(self.audio, sound)
        if self.encoder is None:
            return speech
        return replace(speech, features=listen((self.encoder,), sound, self.device).rows[0][:, 0])

    def condition(self, given: Given, speech: SpeechFeatures) -> Condition:
        assert given.lips is not None
        moments = torch.from_numpy(given.window.seconds).float()
        audio = speech.tokens(moments, self.transformer.config.audio_tokens).to(self.device)
        seconds = (moments - moments[0])[None].to(self.device)
        lips, text = given.lips[None].to(self.device), None if self.text is None else self.text.to(self.device)
        condition = Condition(given.source, seconds, given.pose, audio[None], lips, text)
        if given.part is None:
            return condition
        side = self.geometry.canvas // self.cell
        return replace(
            condition, corner=(given.part.top // self.cell, given.part.left // self.cell), whole=(side, side)
        )

    def velocities(
        self, z: Tensor, sigma: float, condition: Condition, told: Sequence[frozenset[Told]]
    ) -> list[Tensor]:
        num, keep = len(told), torch.tensor([float("audio" in each) for each in told], device=z.device)

        def many(x: Tensor) -> Tensor:
            return x.expand(num, *[-1] * (x.ndim - 1))

        assert condition.audio is not None and condition.lips is not None
        every = replace(
            condition,
            source=many(condition.source),
            seconds=many(condition.seconds),
            pose=None if condition.pose is None else many(condition.pose),
            audio=many(condition.audio),
            lips=many(condition.lips),
            text=None if condition.text is None else many(condition.text),
            keep_audio=keep,
            keep_lips=keep,
        )
        return list(self.velocity(many(z), sigma, every).chunk(num))

    @torch.no_grad()
    def velocity(self, z: Tensor, sigma: float, condition: Condition) -> Tensor:
        """Return the velocity (B, C, F, h, w) at noise level sigma."""
        level = torch.full((len(z),), sigma, device=z.device)
        with autocast(self.device):
            out = self.transformer(z, level, condition)
        if self.transformer.config.prediction == "data":
            return flow.data_to_velocity(z, condition.source + out.float(), sigma)
        return out.float()


def hears_with(width: int) -> Needs:
    """Return what an encoder in Whisper's layout must be for weights that attend to features of that width."""
    return Needs("whisper", width, published=f"any Whisper {width} wide")


def _encoder(weights: Path, hearing: dict[str, Any] | None, folder: Path | None) -> Encoder | None:
    """Return the speech encoder that weights hear with; None: with their own."""
    if hearing is None:
        return None
    needs = hears_with(int(hearing["width"]))
    if folder is None:
        raise OptionError(f"{weights} hears with {needs.published}: name its folder by audio_encoder")
    check_encoder(folder, needs)
    return encoder_of(folder, needs)


def _text(weights: Path, config: TransformerConfig, file: Path | None) -> Tensor | None:
    """Return the encoded text (1, L, D) for weights that read, if there is any."""
    if file is None:
        return None
    if not config.text_width:
        raise OptionError(f"text: {weights} reads none; leave it out")
    return read_text(file).prompt


def _path(name: str | None) -> Path | None:
    return Path(name) if name else None


def _tuples(config: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no tuples; the configs do."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}
