"""Losses beside the velocity's: on decoded pixels, on motion, by a critic, by the sync expert. All are off unless weighted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unisync.errors import OptionError
from unisync.nets.expert import RATE, Expert, sync_loss
from unisync.nets.vae import FaceVae

LOWER_FACE = (0.375, 1.0, 0.125, 0.875)
"""Top, bottom, left, right of what is decoded, in canvas sides. It holds all that the expert sees; the rest of the canvas
is copied from the source, costs as much as lips to decode, and tells a critic nothing of them."""


@dataclass(frozen=True, kw_only=True)
class ExtraTerms:
    """Weights of the terms; 0 is off, and costs nothing."""

    pixel: float = 0.0
    """L1 of decoded pixels."""
    gradient: float = 0.0
    """L1 of their differences between neighbours, which is sharpness."""
    critic: float = 0.0
    """Hinge loss against a small patch critic that learns beside the network."""
    temporal: float = 0.0
    """Squared error of the latents' change from frame to frame, in the mouth."""
    sync: float = 0.0
    """Distance of painted lips and sound to the sync expert, in windows at 25 frames a second."""
    pixel_frames: int = 8
    """Frames of a batch that are decoded for the terms on pixels."""
    sync_clips: int = 2
    """Windows of a batch that are decoded for the sync term."""

    def __post_init__(self) -> None:
        for name in ("pixel", "gradient", "critic", "temporal", "sync"):
            if getattr(self, name) < 0:
                raise OptionError(f"{name} is the weight of a loss, 0 or more, not {getattr(self, name):g}")

    @property
    def wanted(self) -> bool:
        """Whether any term is on."""
        return self.decodes or self.temporal > 0 or self.sync > 0

    @property
    def decodes(self) -> bool:
        """Whether frames are decoded for terms on single pictures."""
        return self.pixel > 0 or self.gradient > 0 or self.critic > 0


class PatchCritic(nn.Sequential):
    """Convolutions that judge overlapping patches of pictures (B, 3, H, W) in [-1, 1]: (B, 1, H/8, W/8), high is real."""

    def __init__(self, width: int = 32) -> None:
        layers: list[nn.Module] = []
        for before, after in ((3, width), (width, 2 * width), (2 * width, 4 * width)):
            layers += [nn.Conv2d(before, after, 4, 2, 1), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Conv2d(4 * width, 1, 3, 1, 1))


class ExtraLosses:
    """The terms with what they need: a frozen autoencoder, a frozen expert, a critic that learns."""

    def __init__(self, weights: ExtraTerms, vae: FaceVae, expert: Expert | None) -> None:
        if weights.sync > 0 and expert is None:
            raise OptionError("the sync term needs the sync expert: give its file as 'expert'")
        self.weights, self.vae, self.expert = weights, vae.eval().requires_grad_(False), expert
        self.frozen: tuple[nn.Module, ...] = (vae, expert) if expert is not None and weights.sync > 0 else (vae,)
        self.critics: dict[str, nn.Module] = {"critic": PatchCritic()} if weights.critic > 0 else {}
        if expert is not None:
            expert.eval().requires_grad_(False)

    def __call__(self, data: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the weighted terms for guessed clean latents (B, C, F, h, w)."""
        weights, terms = self.weights, dict[str, Tensor]()
        target = batch["target"]
        if weights.temporal > 0:
            change = (data.diff(dim=2) - target.diff(dim=2)).square() * batch["mask"][:, :, 1:]
            terms["temporal"] = weights.temporal * change.mean()
        if weights.decodes:
            terms |= self._pictures(data, target)
        if weights.sync > 0:
            terms["sync"] = weights.sync * self._sync(data, batch)
        return terms

    def _pictures(self, data: Tensor, target: Tensor) -> dict[str, Tensor]:
        weights, terms = self.weights, dict[str, Tensor]()
        every = data.transpose(1, 2).flatten(0, 1)
        at = torch.randperm(len(every))[: weights.pixel_frames].to(data.device)
        made = self._decode(every[at])
        with torch.no_grad():
            real = self._decode(target.transpose(1, 2).flatten(0, 1)[at])
        if weights.pixel > 0:
            terms["pixel"] = weights.pixel * (made - real).abs().mean()
        if weights.gradient > 0:
            edges = [(made.diff(dim=d) - real.diff(dim=d)).abs().mean() for d in (-1, -2)]
            terms["gradient"] = weights.gradient * (edges[0] + edges[1])
        if weights.critic > 0:
            terms |= hinge(self.critics["critic"], made, real, weights.critic)
        return terms

    def _sync(self, data: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Return the mean distance over some windows; 0 where none has sound and the expert's own rate."""
        assert self.expert is not None
        steady = (batch["seconds"].diff(dim=1) - 1 / RATE).abs().amax(1) < 0.1 / RATE
        at = torch.nonzero(steady & (batch["has_mel"] > 0))[: self.weights.sync_clips, 0]
        if not len(at):
            return data.sum() * 0
        frames = data[at].transpose(1, 2)
        part = self._decode(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        stride = self.vae.config.stride
        height, width = (stride * size for size in frames.shape[-2:])
        top, bottom, left, right = lower_face(*frames.shape[-2:])
        around = (left * stride, width - right * stride, top * stride, height - bottom * stride)
        return sync_loss(self.expert, F.pad((part.clamp(-1, 1) + 1) / 2, around), batch["mel"][at])

    def _decode(self, latents: Tensor) -> Tensor:
        """Return the lower face (N, 3, H', W') of latents (N, C, h, w)."""
        top, bottom, left, right = lower_face(*latents.shape[-2:])
        return self.vae.decode(latents[..., top:bottom, left:right]).float()


def lower_face(rows: int, columns: int) -> tuple[int, int, int, int]:
    """Return top, bottom, left, right of `LOWER_FACE` in latents of so many rows and columns."""
    top, bottom, left, right = LOWER_FACE
    return round(top * rows), round(bottom * rows), round(left * columns), round(right * columns)


def hinge(critic: nn.Module, made: Tensor, real: Tensor, weight: float) -> dict[str, Tensor]:
    """Return what the network and what the critic minimise, in one sum: neither's gradient reaches the other's weights."""
    fixed = {name: value.detach() for name, value in critic.named_parameters()}
    fooled = -torch.func.functional_call(critic, fixed, (made,)).float().mean()
    judged = F.relu(1 - critic(real).float()).mean() + F.relu(1 + critic(made.detach()).float()).mean()
    return {"fooled": weight * fooled, "critic": judged}
