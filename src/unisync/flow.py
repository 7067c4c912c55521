"""Rectified flow as pure functions: the path, its schedule, its solver, guidance, and what the methods do on the way.

sigma is the noise level: 0 is data, 1 is pure noise. Latents are (B, C, F, h, w). Equation numbers are those of
UniSync (arXiv 2603.03882) unless OmniSync (arXiv 2505.21448) is named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

TaliMode = Literal["index", "sigma"]
Counting = Literal["below", "all"]
Solver = Literal["euler", "unipc"]
Velocity = Callable[[Tensor, float], Tensor]
"""(latents, sigma) -> velocity shaped like the latents."""


def noised(z: Tensor, noise: Tensor, sigma: Tensor | float) -> Tensor:
    """Return (1 - sigma) z + sigma noise, the straight path between data and noise.

    Eq 11 prints alpha² + sigma² = 1, which contradicts the velocity of Eq 3; alpha = 1 - sigma agrees with it.
    """
    return (1 - sigma) * z + sigma * noise


def target_velocity(z: Tensor, noise: Tensor) -> Tensor:
    """Return v = noise - z, the derivative of `noised` by sigma (the target of Eq 3)."""
    return noise - z


def data_to_velocity(z: Tensor, data: Tensor, sigma: float) -> Tensor:
    """Return the velocity of a network that predicts data: v = (z_sigma - data) / sigma."""
    return (z - data) / max(sigma, 1e-3)


def loss_weight(sigma: Tensor) -> Tensor:
    """Return omega(sigma) of Eq 3: a bell over the middle levels, 0 at both ends, mean 1 over uniform sigma in [0, 1]."""
    bell = torch.exp(-2 * (sigma - 0.5) ** 2) - math.exp(-0.5)
    mean = math.sqrt(math.pi / 2) * math.erf(1 / math.sqrt(2)) - math.exp(-0.5)
    return bell / mean


def shifted(sigma: Tensor, shift: float) -> Tensor:
    """Return sigma moved towards noise: shift sigma / (1 + (shift - 1) sigma); 0 and 1 stay."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def schedule(steps: int, shift: float = 1.0, start: float = 1.0, counting: Counting = "below") -> list[float]:
    """Return levels falling from `start` to 0.

    What OmniSync leaves open for start < 1 (its tau): "below" takes all `steps` at or below it, "all" cuts them off a
    schedule that begins with pure noise, so that fewer are left. Raises ValueError for steps < 1 or start outside (0, 1].
    """
    if steps < 1 or not 0 < start <= 1:
        raise ValueError(f"steps must be 1 or more and start in (0, 1], not {steps} and {start}")
    unshifted = 1.0 if counting == "all" else start / (shift - (shift - 1) * start)
    levels = shifted(torch.linspace(unshifted, 0, steps + 1, dtype=torch.float64), shift).tolist()
    return [start, *(level for level in levels[1:] if level < start)]


def euler(z: Tensor, velocity: Tensor, sigma: float, next_sigma: float) -> Tensor:
    """Return z one step nearer to data (line 4 of Algorithm 1)."""
    return z + (next_sigma - sigma) * velocity


def guided(unconditional: Tensor, conditional: Tensor, scale: Tensor | float) -> Tensor:
    """Return classifier-free guidance: scale 0 is unconditional, 1 is conditional, more exaggerates."""
    return unconditional + scale * (conditional - unconditional)


def spatial_guidance(mouth: Tensor, spread: Tensor, grid: tuple[int, int], base: float, peak: float) -> Tensor:
    """Return G(x, y) of OmniSync's Eq 7 over peak, (1, 1, F, h, w): a Gaussian bell from base / peak up to 1 at the mouth.

    G as printed is multiplied by omega(t), which has the peak in it once more; hence the division.
    mouth: (F, 2), x and y as shares of the picture's width and height.  spread: (F,), the bell's width, likewise.
    """
    rows, columns = ((torch.arange(num, device=mouth.device) + 0.5) / num for num in grid)
    away = (columns - mouth[:, :1])[:, None].square() + (rows - mouth[:, 1:])[:, :, None].square()
    bell = torch.exp(-away / (2 * spread.square()[:, None, None]))
    return ((base + (peak - base) * bell) / peak)[None, None]


def temporal_guidance(sigma: float, peak: float, gamma: float) -> float:
    """Return omega(t) of OmniSync's Eq 8, peak (t / T) ** gamma, t / T being the noise level."""
    return float(peak * sigma**gamma)


def dynamic_guided(
    unconditional: Tensor, conditional: Tensor, spatial: Tensor, sigma: float, peak: float, gamma: float
) -> Tensor:
    """Return the velocity under DS-CFG, v + G omega(t) (v_c - v) (OmniSync Eq 9). spatial: as `spatial_guidance` gives it."""
    return guided(unconditional, conditional, spatial * temporal_guidance(sigma, peak, gamma))


def progressive_start(source: Tensor, noise: Tensor, tau: float) -> Tensor:
    """Return the latents to begin with, (1 - tau) source + tau noise (OmniSync Eq 5); tau = 1 is pure noise."""
    return noised(source, noise, tau)


def tali_active(step: int, steps: int, next_sigma: float, ratio: float, mode: TaliMode) -> bool:
    """Return whether step 0, 1, … of `steps` injects the source (line 5 of Algorithm 1: t > (1 - ratio) T, t = T - step).

    mode "index" counts steps as printed; "sigma" reads the same bound as a noise level, next_sigma > 1 - ratio.
    """
    if mode == "sigma":
        return round(next_sigma + ratio, 9) > 1
    return steps - step > round((1 - ratio) * steps, 9)


def inject(z: Tensor, source: Tensor, noise: Tensor, mask: Tensor, sigma: float) -> Tensor:
    """Return M z + (1 - M) z~ (Eq 10), z~ being the source noised to `sigma` (Eq 11).

    mask: 1 where the mouth is generated, broadcastable to z.  sigma: the level of z, after the step.
    """
    return torch.where(mask > 0.5, z, noised(source, noise, sigma))


def per_latent_frame(values: Tensor, temporal_stride: int) -> Tensor:
    """Return the means (F', …) of values (F, …) over the pixel frames that each latent frame covers."""
    if temporal_stride == 1:
        return values
    return torch.stack([group.mean(0) for group in (values[:1], *values[1:].split(temporal_stride))])


def latent_mask(mask: Tensor, temporal_stride: int, spatial_stride: int, dilate: int = 1) -> Tensor:
    """Return a binary mask (B, 1, F', h, w) from pixel masks (B, F, H, W).

    A latent frame's mask is the union over the pixel frames it covers: the first alone, then `temporal_stride` each.
    It is widened by `dilate` latent cells after a max-pool over space, so no mouth pixel falls outside.
    """
    hard = (mask > 0.5).float()
    spatial = torch.nn.functional.max_pool2d(hard, spatial_stride)
    if dilate:
        spatial = torch.nn.functional.max_pool2d(spatial, 2 * dilate + 1, stride=1, padding=dilate)
    if temporal_stride == 1:
        return spatial[:, None]
    groups = [spatial[:, :1], *spatial[:, 1:].split(temporal_stride, dim=1)]
    return torch.stack([group.amax(1) for group in groups], dim=1)[:, None]


@dataclass(frozen=True, eq=False)
class Injection:
    """What is held to known latents on the way (Algorithm 1).

    source: the latents; mask: as in `inject`; ratio: tau_inj, 1 is all the way.
    noise: one fixed draw for all steps, or None for a fresh one per step as in the paper.
    """

    source: Tensor
    mask: Tensor
    ratio: float
    mode: TaliMode = "index"
    noise: Tensor | None = None


class Unipc:
    """UniPC of second order (arXiv 2302.04867) on data predictions, with B(h) = exp(-h) - 1, over given levels.

    Each step corrects what the last one predicted by the newest data prediction, then predicts the next level.
    """

    def __init__(self, levels: Sequence[float]) -> None:
        self.levels = levels
        self._data: list[Tensor] = []
        self._from = torch.empty(0)

    def step(self, z: Tensor, velocity: Tensor, free: Tensor | None = None) -> Tensor:
        """Return z at the next level. free: where z may be corrected (1), broadcastable to z; None is everywhere."""
        now = len(self._data)
        data = z - self.levels[now] * velocity
        if now:
            corrected = self._advanced(now - 1, data)
            z = corrected if free is None else torch.where(free > 0.5, corrected, z)
        self._data.append(data)
        self._from = z
        return self._advanced(now)

    def _advanced(self, at: int, arrived: Tensor | None = None) -> Tensor:
        """Return z one level on from levels[at]: predicted, or corrected by the data prediction at where it arrived."""
        sigma, next_sigma = self.levels[at], self.levels[at + 1]
        wide = self._log_ratio(at + 1) - self._log_ratio(at)
        bend = math.expm1(-wide)
        second = at > 0 and at + 1 < len(self.levels) - 1
        newest = self._data[at]
        slopes, places = [], []
        if second:  # a line through the data prediction before it, too
            back = (self._log_ratio(at - 1) - self._log_ratio(at)) / wide
            slopes.append((self._data[at - 1] - newest) / back)
            places.append(back)
        weights = [0.5]
        if arrived is not None:
            slopes.append(arrived - newest)
            places.append(1.0)
            weights = self._weights(places, wide)
        out = next_sigma / sigma * self._from - (1 - next_sigma) * bend * newest
        for weight, slope in zip(weights, slopes, strict=False):
            out = out - (1 - next_sigma) * bend * weight * slope
        return out

    def _log_ratio(self, at: int) -> float:
        """Return log(alpha / sigma) at a level; noise and data themselves are taken as all but so."""
        sigma = min(max(self.levels[at], 1e-12), 1 - 1e-6)
        return math.log1p(-sigma) - math.log(sigma)

    @staticmethod
    def _weights(places: Sequence[float], wide: float) -> list[float]:
        """Return the corrector's weights of the slopes (the paper's R_p a_p = b_p)."""
        if len(places) == 1:
            return [0.5]
        bend = math.expm1(-wide)
        moment, right = bend / -wide - 1, []
        for power in range(1, len(places) + 1):
            right.append(moment * math.factorial(power) / bend)
            moment = moment / -wide - 1 / math.factorial(power + 1)
        rows = torch.tensor([[place**power for place in places] for power in range(len(places))], dtype=torch.float64)
        solved: list[float] = torch.linalg.solve(rows, torch.tensor(right, dtype=torch.float64)).tolist()
        return solved


def sample(
    velocity: Velocity,
    z: Tensor,
    levels: list[float],
    injections: Sequence[Injection],
    generator: torch.Generator,
    solver: Solver = "euler",
) -> Tensor:
    """Return data from `z` at levels[0], after each step of which the injections that are due take place."""
    steps = len(levels) - 1
    unipc = Unipc(levels) if solver == "unipc" else None
    held = torch.ones(())
    for step, (sigma, next_sigma) in enumerate(zip(levels, levels[1:], strict=False)):
        speed = velocity(z, sigma)
        z = unipc.step(z, speed, held.to(z.device)) if unipc else euler(z, speed, sigma, next_sigma)
        held = torch.ones(())
        for injection in injections:
            if tali_active(step, steps, next_sigma, injection.ratio, injection.mode):
                noise = injection.noise
                if noise is None:
                    noise = torch.randn(z.shape, generator=generator, dtype=z.dtype).to(z.device)
                z = inject(z, injection.source, noise, injection.mask, next_sigma)
                held = held.to(z.device) * (injection.mask > 0.5)
    return z
