"""Train the embedded autoencoder on canvases and on pose drawings: L1, gradient L1 and a little KL."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unisync.errors import OptionError
from unisync.methods.pose import draw_pose
from unisync.nets.precision import autocast
from unisync.nets.vae import FaceVae
from unisync.training.dataset import Sample
from unisync.training.loop import Batch, Job, Look, Loop, LoopRecipe, Terms
from unisync.types import Floats, Pixels


@dataclass(frozen=True, kw_only=True)
class VaeRecipe(LoopRecipe):
    """How the autoencoder is trained."""

    minutes: float = 25.0
    batch: int = 12
    lowest_rate: float = 0.02
    weight_decay: float = 1e-4
    gradient_weight: float = 0.5
    kl_weight: float = 3e-4
    pose_share: float = 0.06
    frames_per_clip: int = 40
    ema: float = 0.998
    ema_delay: int = 50
    look_every: int = 250


Stock = list[tuple[Pixels, Floats]]


def train_vae(
    vae: FaceVae, stocks: tuple[Stock, Stock], folder: Path, recipe: VaeRecipe, spec: dict[str, Any]
) -> FaceVae:
    """Train on the first stock, look at the second, and return the averaged network."""
    train, held = stocks
    if not train:
        raise OptionError("the dataset has no samples to train the autoencoder on: prepare one with more films")
    rnd = random.Random()
    vae = vae.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def draw() -> Batch:
        x = torch.stack([_draw(train, recipe, rnd) for _ in range(recipe.batch)])
        return {"pixels": x.contiguous(memory_format=torch.channels_last)}

    def loss(network: FaceVae, batch: Batch) -> Terms:
        return {"loss": vae_loss(network, batch["pixels"], recipe)}

    def look(network: FaceVae) -> Look:
        return Look({"psnr": psnr(network, held)}, _grid(network, held))

    average = Loop(Job(vae, draw, loss, spec, rnd, look if held else None), recipe, folder).run()
    assert isinstance(average, FaceVae)
    return average


def vae_loss(vae: FaceVae, x: Tensor, recipe: VaeRecipe) -> Tensor:
    """Return the loss for pixels (B, 3, H, W) in [-1, 1]."""
    mean, log_var = vae.posterior(x)
    noise = torch.randn(mean.shape).to(x.device)
    raw = mean.float() + noise * torch.exp(0.5 * log_var.float())
    y = vae.reconstruct(raw).float()
    kl = 0.5 * (mean.float() ** 2 + log_var.float().exp() - 1 - log_var.float()).mean()
    edges = sum((y.diff(dim=d) - x.diff(dim=d)).abs().mean() for d in (-1, -2))
    return (y - x).abs().mean() + recipe.gradient_weight * edges + recipe.kl_weight * kl


@torch.no_grad()
def psnr(vae: FaceVae, stock: Stock) -> float:
    """Return the mean PSNR in dB over every 13th canvas of a stock."""
    values = []
    for pixels, _ in stock:
        x = _tensor(pixels[::13]).to(vae.mean.device)
        with autocast(x.device):
            y = vae.reconstruct(vae.posterior(x)[0])
        values.append(10 * torch.log10(4 / (y.float().clamp(-1, 1) - x).square().mean((1, 2, 3))))
    return float(torch.cat(values).mean())


@torch.no_grad()
def measure_latents(vae: FaceVae, stock: Stock) -> None:
    """Set the mean and spread that normalise the latents."""
    raw = torch.cat([vae.posterior(_tensor(pixels[::10]).to(vae.mean.device))[0] for pixels, _ in stock[::5]])
    vae.mean.copy_(raw.mean((0, 2, 3)))
    vae.std.copy_(raw.std((0, 2, 3)))


@torch.no_grad()
def _grid(vae: FaceVae, stock: Stock) -> Tensor:
    """Return canvases uint8 over what became of them, of up to eight clips."""
    x = torch.cat([_tensor(pixels[:1]) for pixels, _ in stock[:8]]).to(vae.mean.device)
    pairs = torch.cat([x, vae.reconstruct(vae.posterior(x)[0]).float()], dim=2).clamp(-1, 1)
    return ((pairs + 1) * 127.5).round().to(torch.uint8).permute(2, 0, 3, 1).flatten(1, 2).cpu()


def stock_of(samples: Iterable[Sample], frames: int) -> Stock:
    """Return some canvases of every sample with their landmarks."""
    stock = []
    for sample in samples:
        clip = sample.canvases
        chosen = np.linspace(0, len(clip.pixels) - 1, min(frames, len(clip.pixels))).astype(int)
        stock.append((clip.pixels[chosen], clip.landmarks[chosen]))
    return stock


def _draw(stock: Stock, recipe: VaeRecipe, rnd: random.Random) -> Tensor:
    """Return one picture (3, H, W) in [-1, 1]: a canvas, mirrored and recoloured at random, or now and then a pose."""
    pixels, landmarks = rnd.choice(stock)
    i = rnd.randrange(len(pixels))
    if rnd.random() < recipe.pose_share:
        image = draw_pose(landmarks[i : i + 1], pixels.shape[1])
    else:
        image = pixels[i : i + 1]
    x = _tensor(image)[0]
    if rnd.random() < 0.5:
        x = x.flip(-1)
    if rnd.random() < 0.5:
        x = x * rnd.uniform(0.7, 1.3) + 0.2 * rnd.gauss(0, 1) + 0.08 * torch.randn(3, 1, 1)
    return x.clamp(-1, 1)


def _tensor(pixels: Pixels) -> Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
