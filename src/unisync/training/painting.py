"""What a network paints in latents, as the method does at inference: for looks, for redubs, for teachers."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from unisync import flow
from unisync.methods.editing import CLOSED, SHARED_NOISE
from unisync.nets.precision import autocast
from unisync.nets.transformer import Condition, Transformer
from unisync.nets.vae import FaceVae
from unisync.training.clips import Clip, Sampler, SamplingRecipe
from unisync.training.loop import Batch, Look
from unisync.training.transformer import TransformerRecipe, condition_of, loss_of

STEPS, START, INJECTION = 4, CLOSED, 0.8
"""Steps, first level and share of steps with injection, as `dub` has them where lips are closed first."""
LOOKS = 8
"""Held-out samples that are looked at; half of them are drawn."""


def velocity_of(network: Transformer, z: Tensor, sigma: float, condition: Condition) -> Tensor:
    """Return the velocity float32 (B, C, F, h, w) at one level."""
    with autocast(z.device):
        out = network(z, torch.full((len(z),), sigma, device=z.device), condition).float()
    if network.config.prediction == "data":
        return flow.data_to_velocity(z, condition.source + out, sigma)
    return out


def start_noise(shape: torch.Size, device: torch.device) -> Tensor:
    """Return unit noise (B, C, F, h, w), partly the same in all frames, as the method draws it."""
    common, own = torch.randn(shape[0], shape[1], 1, *shape[3:]), torch.randn(shape)
    return (SHARED_NOISE**0.5 * common + (1 - SHARED_NOISE) ** 0.5 * own).to(device)


@torch.no_grad()
def paint(network: Transformer, condition: Condition, mask: Tensor, noise: Tensor, steps: int = STEPS) -> Tensor:
    """Return painted latents (B, C, F, h, w). mask: (B, 1, F, h, w).  noise: as the source."""
    z = flow.progressive_start(condition.source, noise, START)
    injection = flow.Injection(condition.source, mask, INJECTION, noise=noise)
    return flow.sample(
        lambda z, sigma: velocity_of(network, z, sigma, condition),
        z,
        flow.schedule(steps, 1.0, START),
        [injection],
        torch.Generator(),
    )


class Looker:
    """Looks at the same held-out samples again and again: loss, error in the mouth, and pictures."""

    def __init__(self, clips: list[Clip], sampler: Sampler, vae: FaceVae) -> None:
        kept = SamplingRecipe(
            steps=1, batch=LOOKS, frames=sampler.recipe.frames, masked=0, transplant=0, lent=0, silent=0, drop_audio=0,
            drop_lips=0, drop_both=0, lip_noise=0,
        )  # fmt: skip
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.batch = Sampler(clips, kept, sampler.config, sampler.silence).draw()
        self.vae = vae.eval()

    def __call__(self, network: Transformer, recipe: TransformerRecipe | None, steps: int = STEPS) -> Look:
        """Return the figures of a network; its loss too, if a recipe says how it is weighted."""
        device = next(network.parameters()).device
        self.vae.to(device)
        batch = {name: value.to(device) for name, value in self.batch.items()}
        figures: dict[str, float] = {}
        if recipe is not None:
            with autocast(device):
                figures["loss"] = float(loss_of(network, batch, replace(recipe, batch=LOOKS)))
        noise = start_noise(batch["target"].shape, device)
        painted = paint(network, condition_of(batch), batch["mask"], noise, steps)
        error = (painted - batch["target"]).abs() * batch["mask"]
        figures["mouth"] = float(error.sum() / (batch["mask"].sum() * painted.shape[1]))
        still = (batch["source"] - batch["target"]).abs() * batch["mask"]
        figures["mouth_of_source"] = float(still.sum() / (batch["mask"].sum() * painted.shape[1]))
        return Look(figures, self._grid(batch, painted))

    def _grid(self, batch: Batch, painted: Tensor) -> Tensor:
        """Return the middle frames: source, painted and truth side by side, one row a sample."""
        middle = painted.shape[2] // 2
        parts = [z[: LOOKS // 2, :, middle] for z in (batch["source"], painted, batch["target"])]
        rows = torch.stack(parts, dim=1)
        pixels = self.vae.decode(rows.flatten(0, 1)).float().clamp(-1, 1)
        pixels = ((pixels + 1) * 127.5).round().to(torch.uint8).unflatten(0, rows.shape[:2])
        return pixels.permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2).cpu()
