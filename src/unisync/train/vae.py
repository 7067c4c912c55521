"""Train the embedded autoencoder on canvases and on pose drawings: L1, gradient L1 and a little KL."""

from __future__ import annotations

import copy
import json
import random
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unisync.methods.pose import draw_pose
from unisync.nets.vae import FaceVae, VaeConfig
from unisync.train.canvases import load_canvases
from unisync.types import Floats, Pixels


@dataclass(frozen=True)
class VaeRecipe:
    """How the autoencoder is trained."""

    minutes: float = 25.0
    batch: int = 12
    learning_rate: float = 1e-3
    warmup: int = 200
    gradient_weight: float = 0.5
    kl_weight: float = 3e-4
    pose_share: float = 0.06
    frames_per_clip: int = 40
    ema: float = 0.998
    held_out: int = 40
    """Every so-manieth clip is kept for the printed PSNR."""
    seed: int = 0


Stock = list[tuple[Pixels, Floats]]


def train_vae(canvases: Path, out: Path, recipe: VaeRecipe, config: VaeConfig) -> None:
    """Train for recipe.minutes and write the averaged weights with their latent statistics."""
    torch.manual_seed(recipe.seed)
    rnd = random.Random(recipe.seed)
    stock = _stock(canvases, recipe.frames_per_clip)
    held, stock = stock[:: recipe.held_out], [s for i, s in enumerate(stock) if i % recipe.held_out]
    if not held or not stock:
        raise ValueError(f"{canvases}: too few clips for a held-out share of one in {recipe.held_out}")
    vae = FaceVae(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(vae)
    optimizer = torch.optim.AdamW(vae.parameters(), recipe.learning_rate, weight_decay=1e-4)
    begun, step = time.monotonic(), 0
    while (share := (time.monotonic() - begun) / (60 * recipe.minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * min(1, step / recipe.warmup) * max(0.02, 1 - share)
        x = torch.stack([_draw(stock, recipe, rnd) for _ in range(recipe.batch)])
        loss = vae_loss(vae, x.contiguous(memory_format=torch.channels_last), recipe)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(average.parameters(), vae.parameters(), strict=True):
                slow.lerp_(fast, 1 - min(recipe.ema, step / (step + 50)))
        step += 1
        if step % 250 == 0:
            print(
                json.dumps({"step": step, "loss": round(loss.item(), 4), "psnr": round(psnr(average, held), 2)}),
                flush=True,
            )
    measure_latents(average, stock)
    torch.save(average.state_dict(), out)


def vae_loss(vae: FaceVae, x: Tensor, recipe: VaeRecipe) -> Tensor:
    """Return the loss for pixels (B, 3, H, W) in [-1, 1]."""
    with torch.autocast("cpu", torch.bfloat16):
        mean, log_var = vae.posterior(x)
        raw = mean.float() + torch.randn_like(mean, dtype=torch.float32) * torch.exp(0.5 * log_var.float())
        y = vae.reconstruct(raw)
    y = y.float()
    kl = 0.5 * (mean.float() ** 2 + log_var.float().exp() - 1 - log_var.float()).mean()
    edges = sum((y.diff(dim=d) - x.diff(dim=d)).abs().mean() for d in (-1, -2))
    return (y - x).abs().mean() + recipe.gradient_weight * edges + recipe.kl_weight * kl


@torch.no_grad()
def psnr(vae: FaceVae, stock: Stock) -> float:
    """Return the mean PSNR in dB over every 13th canvas of a stock."""
    values = []
    for pixels, _ in stock:
        x = _tensor(pixels[::13])
        with torch.autocast("cpu", torch.bfloat16):
            y = vae.reconstruct(vae.posterior(x)[0])
        values.append(10 * torch.log10(4 / (y.float().clamp(-1, 1) - x).square().mean((1, 2, 3))))
    return float(torch.cat(values).mean())


@torch.no_grad()
def measure_latents(vae: FaceVae, stock: Stock) -> None:
    """Set the mean and spread that normalise the latents."""
    raw = torch.cat([vae.posterior(_tensor(pixels[::10]))[0] for pixels, _ in stock[::5]])
    vae.mean.copy_(raw.mean((0, 2, 3)))
    vae.std.copy_(raw.std((0, 2, 3)))


def _stock(canvases: Path, frames: int) -> Stock:
    stock = []
    for path in sorted(canvases.glob("*.npz")):
        clip = load_canvases(path)
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
