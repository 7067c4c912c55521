"""The embedded default: small enough for a CPU, its weights inside the package."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unisync import flow
from unisync.backbones.base import Geometry
from unisync.errors import OptionError, WeightsError
from unisync.nets.audio import AudioConfig, AudioEncoder
from unisync.nets.lora import merge_lora, parse_lora
from unisync.nets.precision import autocast
from unisync.nets.transformer import Condition, Transformer, TransformerConfig
from unisync.nets.vae import FaceVae, VaeConfig
from unisync.nets.weights import fill, read_weights
from unisync.options import DubOptions
from unisync.types import Pixels

KIND = "mini"
STRETCH = 2
"""Windows are painted so many times as long as those of the training: fewer frames are painted twice, and joins are rarer."""


def embedded_weights() -> Path:
    """Return where the shipped weights lie."""
    return Path(str(files("unisync") / "weights" / "mini.safetensors"))


class Mini:
    """The embedded backbone. Raises WeightsError if the file is missing, damaged or of another kind."""

    def __init__(self, path: Path | None = None, device: str = "cpu") -> None:
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
        self.lip_gain = float(spec["lip_gain"])
        self.steps = int(spec["steps"])
        self.vae.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.geometry = Geometry(
            canvas=spec["canvas"],
            length=STRETCH * spec["length"],
            channels=self.vae.config.latent_channels,
            spatial_stride=self.vae.config.stride,
            temporal_stride=1,
            audio_tokens=self.transformer.config.audio_tokens,
        )

    @classmethod
    def from_options(cls, options: DubOptions) -> Mini:
        """Return the backbone that the options ask for; sets the number of torch's threads if they say one."""
        if options.threads:
            torch.set_num_threads(options.threads)
        made = cls(Path(options.weights) if options.weights else None, _device(options.device))
        networks = {"vae": made.vae, "audio": made.audio, "transformer": made.transformer}
        for text in options.lora.split(",") if options.lora else ():
            merge_lora(networks, *parse_lora(text))
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

    def closed_lips(self) -> Tensor:
        return -self.audio.lip_mean / self.audio.lip_std

    @torch.no_grad()
    def velocity(self, z: Tensor, sigma: float, condition: Condition) -> Tensor:
        level = torch.full((len(z),), sigma, device=z.device)
        with autocast(self.device):
            out = self.transformer(z, level, condition)
        if self.transformer.config.prediction == "data":
            return flow.data_to_velocity(z, condition.source + out.float(), sigma)
        return out.float()


def _device(wish: str) -> str:
    """Return torch's name of the device. Raises OptionError if it is not there."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wish == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if there[name])
    if not there[wish]:
        raise OptionError(f"device {wish}: PyTorch {torch.__version__} sees none on this machine; take --device cpu")
    return wish


def _tuples(config: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no tuples; the configs do."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}
