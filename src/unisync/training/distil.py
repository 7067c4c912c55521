"""Few-step distillation: a student makes in one step what its teacher makes in several (arXiv 2202.00512, at once)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unisync import flow
from unisync.errors import OptionError
from unisync.nets.transformer import Transformer
from unisync.training.clips import SamplingRecipe
from unisync.training.painting import INJECTION, START, start_noise, velocity_of
from unisync.training.transformer import condition_of, lips_place


@dataclass(frozen=True, kw_only=True)
class DistilRecipe(SamplingRecipe):
    """How a student is trained. It is told everything always: guidance is not for few steps."""

    minutes: float = 20.0
    teacher_steps: int = 6
    student_steps: int = 3
    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.95)
    outside_weight: float = 0.1
    lips_weight: float = 3.0
    transplant: float = 0.0
    lent: float = 0.0
    masked: float = 0.0
    drop_audio: float = 0.0
    drop_lips: float = 0.0
    drop_both: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.paired:
            raise OptionError("paired goes with kind transformer: a student learns at its teacher's levels")
        if (
            self.student_steps < 1
            or self.teacher_steps <= self.student_steps
            or self.teacher_steps % self.student_steps
        ):
            raise OptionError(
                f"teacher_steps must be a multiple of student_steps, not {self.teacher_steps} and {self.student_steps}"
            )


@dataclass(frozen=True, eq=False)
class Leg:
    """A student's step: from z at level `sigma` (B,), the clean latents that lead where the teacher came to."""

    z: Tensor
    sigma: Tensor
    data: Tensor


@torch.no_grad()
def teach(teacher: Transformer, batch: dict[str, Tensor], recipe: DistilRecipe) -> Leg:
    """Return one student's step a sample, drawn from the teacher's way from the start to data.

    The way is that of inference; the source is injected where the student's steps end, as it will be for the student.
    """
    condition, source = condition_of(batch), batch["source"]
    levels = flow.schedule(recipe.teacher_steps, 1.0, START)
    every = recipe.teacher_steps // recipe.student_steps
    noise = start_noise(source.shape, source.device)
    z = flow.progressive_start(source, noise, START)
    starts, data = [], []
    for leg in range(recipe.student_steps):
        starts.append(z)
        here, there = levels[leg * every], levels[(leg + 1) * every]
        for sigma, next_sigma in zip(levels[leg * every :], levels[leg * every + 1 :][:every], strict=False):
            z = flow.euler(z, velocity_of(teacher, z, sigma, condition), sigma, next_sigma)
        data.append(starts[-1] - here * (z - starts[-1]) / (there - here))
        if flow.tali_active(leg, recipe.student_steps, there, INJECTION, "index"):
            z = flow.inject(z, source, noise, batch["mask"], there)
    pick = torch.randint(recipe.student_steps, (len(source),)).to(source.device)
    rows = torch.arange(len(source), device=source.device)
    begins = torch.tensor(levels[:-1:every], dtype=torch.float32, device=source.device)
    return Leg(torch.stack(starts)[pick, rows], begins[pick], torch.stack(data)[pick, rows])


def distil_loss(student: Transformer, teacher: Transformer, batch: dict[str, Tensor], recipe: DistilRecipe) -> Tensor:
    """Return the squared error of the student's clean latents, the mouth weighted over the rest."""
    leg = teach(teacher, batch, recipe)
    out = student(leg.z, leg.sigma, condition_of(batch)).float()
    level = leg.sigma.view(-1, 1, 1, 1, 1)
    data = batch["source"] + out if student.config.prediction == "data" else leg.z - level * out
    place = recipe.outside_weight + batch["mask"] + recipe.lips_weight * lips_place(data)
    return ((data - leg.data).square() * place).mean()
