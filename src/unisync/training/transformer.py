"""Train the transformer in cached latents: mask-free editing from sources with other lips, or masked ones (Eq 3)."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from unisync import flow
from unisync.nets.transformer import Condition, Transformer
from unisync.training.clips import SamplingRecipe
from unisync.training.terms import ExtraTerms


@dataclass(frozen=True, kw_only=True)
class TransformerRecipe(SamplingRecipe):
    """How the embedded transformer is trained."""

    minutes: float = 60.0
    learning_rate: float = 6e-4
    warmup: int = 300
    betas: tuple[float, float] = (0.9, 0.95)
    sigma_mean: float = 1.2
    """sigma = sigmoid(normal(sigma_mean, 1)): the noisy end, where the mouth takes shape."""
    outside_weight: float = 0.1
    """Weight of the loss outside the mouth."""
    lips_weight: float = 3.0
    """Weight added where the lips lie, in the aligned canvas about always the same place (`LIPS`)."""
    min_sigma: float = 1.0
    """Below it a data-predicting network's error is not blown up to velocity's; 1: the error of the data itself."""
    weight_floor: float = 1.0
    """Added to omega, which is near 0 at the noisy end, where progressive start begins and the mouth takes shape."""
    stale: float = 0.6
    """How often what lies under the noise is partly the source, as it is on the way from a progressive start: else the
    network learns to trust the old lips it finds there."""
    shared_noise: float = 0.25
    """How often the noise is partly the same in all frames of a window."""
    extra: ExtraTerms = field(default_factory=ExtraTerms)


def draw_level(recipe: TransformerRecipe, rnd: random.Random) -> float:
    """Return a noise level as `guess_of` draws them."""
    return 1 / (1 + math.exp(-rnd.gauss(recipe.sigma_mean, 1)))


LIPS = (0.44, 0.74, 0.30, 0.70)
"""Top, bottom, left, right of the lips in an aligned canvas, as shares of its side."""


def draw_noise(shape: torch.Size, shared: float) -> Tensor:
    """Return unit noise (B, C, F, h, w), in `shared` of the clips partly the same over the frames (a random share each)."""
    share = torch.rand(shape[0], 1, 1, 1, 1) * (torch.rand(shape[0], 1, 1, 1, 1) < shared)
    common = torch.randn(shape[0], shape[1], 1, *shape[3:])
    return share.sqrt() * common + (1 - share).sqrt() * torch.randn(shape)


def stale(target: Tensor, source: Tensor, level: Tensor, often: float) -> Tensor:
    """Return targets (B, C, F, h, w), in `often` of the clips mixed with a random share of their sources.

    The share is at most the noise level: near data, nothing of the start is left.
    """
    amount, chance = torch.rand(level.shape), torch.rand(level.shape)
    share = amount.to(level.device) * level * (chance < often).to(level.device)
    return target + share * (source - target)


@dataclass(frozen=True, eq=False)
class Guess:
    """What a network made of one batch. data: the clean latents (B, C, F, h, w) it guesses.  level: sigma (B, 1, 1, 1, 1)."""

    data: Tensor
    level: Tensor


def guess_of(network: Transformer, batch: dict[str, Tensor], recipe: TransformerRecipe) -> Guess:
    """Return what the network makes of the targets under noise: of the batch's levels if it has any, else random ones.

    Draws are the same on every device.
    """
    target, source = batch["target"], batch["source"]
    sigma = batch.get("sigma")
    if sigma is None:
        sigma = torch.sigmoid(torch.randn(len(target)) + recipe.sigma_mean).to(target.device)
    noise = draw_noise(target.shape, recipe.shared_noise).to(target.device)
    level = sigma.view(-1, 1, 1, 1, 1)
    z = flow.noised(stale(target, source, level, recipe.stale), noise, level)
    out = network(z, sigma, condition_of(batch)).float()
    return Guess(source + out if network.config.prediction == "data" else z - level * out, level)


def condition_of(batch: dict[str, Tensor]) -> Condition:
    """Return what a batch tells the network."""
    names = ("source", "seconds", "pose", "audio", "lips", "keep_audio", "keep_lips")
    told: dict[str, Any] = {name: batch[name] for name in names}
    return Condition(**told, text=batch.get("text"))


def velocity_loss(guess: Guess, batch: dict[str, Tensor], recipe: TransformerRecipe) -> Tensor:
    """Return the omega-weighted velocity loss (Eq 3), the mouth weighted over the rest."""
    target, level = batch["target"], guess.level
    # v - v^ = (data^ - data) / sigma.
    error = (guess.data - target) / level.clamp_min(recipe.min_sigma)
    place = recipe.outside_weight + batch["mask"] + recipe.lips_weight * lips_place(target)
    weight = place * (flow.loss_weight(level) + recipe.weight_floor)
    return (error.square() * weight).mean()


def loss_of(network: Transformer, batch: dict[str, Tensor], recipe: TransformerRecipe) -> Tensor:
    """Return the weighted velocity loss of a batch under fresh noise."""
    return velocity_loss(guess_of(network, batch, recipe), batch, recipe)


def lips_place(like: Tensor) -> Tensor:
    """Return 1 where the lips lie, (h, w), else 0."""
    rows, columns = like.shape[-2:]
    top, bottom, left, right = LIPS
    place = torch.zeros(rows, columns, device=like.device)
    place[round(top * rows) : round(bottom * rows), round(left * columns) : round(right * columns)] = 1
    return place
