"""The one training loop: schedule, accumulation, clipping, moving average, checkpoints and what the board shows.

A run of so many steps is exact: killed at any step and called again, it ends with the weights of a run that was not.
"""

from __future__ import annotations

import copy
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from unisync.errors import OptionError
from unisync.nets.precision import Precision, autocast
from unisync.training.board import Board
from unisync.training.checkpoint import last_checkpoint, read_checkpoint, write_checkpoint

if TYPE_CHECKING:
    from accelerate import Accelerator

Batch = dict[str, Tensor]
Terms = dict[str, Tensor]
"""Named losses; their sum is what is minimised."""


@dataclass(frozen=True, kw_only=True)
class LoopRecipe:
    """What every training has. It ends at `steps` or after `minutes`, whichever comes first; 0 is no limit."""

    steps: int = 0
    minutes: float = 0.0
    batch: int = 8
    accumulate: int = 1
    """Batches per step: their gradients are averaged."""
    precision: Precision = "auto"
    learning_rate: float = 1e-3
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    lowest_rate: float = 0.03
    """Share of the learning rate that is left at the end."""
    warmup: int = 200
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.02
    clip: float = 1.0
    """Longest gradient; longer ones are shortened to it."""
    ema: float = 0.999
    ema_delay: int = 100
    """Steps over which the average still follows closely: it keeps at most step / (step + ema_delay)."""
    log_every: int = 100
    look_every: int = 1000
    """Steps between looks at held-out samples: figures and pictures."""
    save_every: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps <= 0 and self.minutes <= 0:
            raise OptionError("a training needs an end: give steps or minutes")
        if min(self.batch, self.accumulate, self.log_every, self.look_every, self.save_every) < 1:
            raise OptionError("batch, accumulate, log_every, look_every and save_every must be 1 or more")


class Look(NamedTuple):
    """What is seen of held-out samples. grid: uint8 (H, W, 3) or None."""

    figures: dict[str, float]
    grid: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Job:
    """What is trained, on what, towards what. Torch's generator must be seeded before the networks are made.

    network: what is averaged, kept and returned.  draw: gives the next batch, drawing from `rnd` and torch's own generator.
    loss: (network, batch) -> terms, under autocast.  spec: what the network is, for the checkpoint's metadata.
    critics: more modules that learn beside the network, by the same loss.  frozen: modules that the loss uses as they are.
    """

    network: nn.Module
    draw: Callable[[], Batch]
    loss: Callable[[Any, Batch], Terms]
    spec: dict[str, Any]
    rnd: random.Random
    look: Callable[[Any], Look] | None = None
    critics: dict[str, nn.Module] = field(default_factory=dict)
    frozen: tuple[nn.Module, ...] = ()
    keep_best: str | None = None
    """The figure whose highest look is kept and returned instead of the last."""


class Objective(nn.Module):
    """Network and loss as one module, so that several processes share gradients whatever method of it the loss calls."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.network = job.network
        self.critics = nn.ModuleDict(job.critics)
        self._loss = job.loss

    def forward(self, batch: Batch) -> Terms:
        return self._loss(self.network, batch)


@dataclass
class Position:
    """How far a run is."""

    step: int = 0
    seconds: float = 0.0
    mean: float = 0.0
    """Running mean of the loss."""
    best: float = -math.inf


class Loop:
    """One run of one job in a folder, where its checkpoints and its board lie."""

    def __init__(self, job: Job, recipe: LoopRecipe, folder: Path) -> None:
        self.job, self.recipe, self.folder = job, recipe, folder
        self.accelerator = accelerator()
        self.accelerator.gradient_accumulation_steps = recipe.accumulate
        self.device = self.accelerator.device
        objective = Objective(job).to(self.device)
        for module in job.frozen:
            module.to(self.device)
        self.average = copy.deepcopy(job.network).requires_grad_(False)
        self.best = copy.deepcopy(self.average) if job.keep_best else self.average
        trained = [p for p in objective.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            trained, recipe.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay
        )
        self.position = Position()
        self.objective, self.optimizer = self.accelerator.prepare(objective, optimizer)
        self._seed()
        self._resume()
        self._trained = trained

    def run(self) -> nn.Module:
        """Train to the end of the recipe and return the averaged network, or its best look.

        What a checkpoint has done is not done again.
        """
        recipe, position = self.recipe, self.position
        board = Board(self.folder, self.accelerator.is_main_process)
        self.objective.train()
        begun, seen = time.monotonic() - position.seconds, position.step
        while (share := self._share(seconds := time.monotonic() - begun)) < 1:
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(recipe, position.step, share)
            terms, norm = self._step()
            self._follow()
            loss = sum(terms.values())
            position.mean = 0.98 * position.mean + 0.02 * loss if position.step else loss
            position.step += 1
            position.seconds = time.monotonic() - begun
            if position.step % recipe.log_every == 0:
                board.scalars(position.step, {f"train/{name}": value for name, value in terms.items()})
                board.line(position.step, {"loss": position.mean, "gradient": norm, "seconds": position.seconds})
            if position.step % recipe.look_every == 0:
                self._look(board)
            if position.step % recipe.save_every == 0:
                self.save()
                seen = position.step
        if position.step != seen and position.step % recipe.look_every:
            self._look(board)
        if position.step != seen or self._share(position.seconds) < 1:
            position.seconds = seconds
            self.save()
        board.close()
        return self.best

    def save(self) -> None:
        """Write a checkpoint: weights with their spec, and beside them what is needed to go on exactly."""
        accelerator, position = self.accelerator, self.position
        state = {
            "optimizer": self.optimizer.state_dict(),
            "critics": accelerator.unwrap_model(self.objective).critics.state_dict(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
            "python": self.job.rnd.getstate(),
            "position": vars(position),
        }
        write_checkpoint(self.folder, position.step, self._networks(), self.job.spec, state, accelerator)

    def _networks(self) -> dict[str, nn.Module]:
        networks = {"average": self.average, "network": self.accelerator.unwrap_model(self.objective).network}
        return networks | {"best": self.best} if self.job.keep_best else networks

    def _step(self) -> tuple[dict[str, float], float]:
        """Make one step of the optimizer; return its mean loss terms and the length of its gradient."""
        recipe, accelerator = self.recipe, self.accelerator
        totals: dict[str, float] = {}
        norm = 0.0
        for _ in range(recipe.accumulate):
            batch = {name: value.to(self.device) for name, value in self.job.draw().items()}
            with accelerator.accumulate(self.objective):
                with autocast(self.device, recipe.precision):
                    terms = self.objective(batch)
                accelerator.backward(torch.stack(list(terms.values())).sum())
                if accelerator.sync_gradients:
                    norm = float(accelerator.clip_grad_norm_(self._trained, recipe.clip))
                self.optimizer.step()
                self.optimizer.zero_grad()
            for name, value in terms.items():
                totals[name] = totals.get(name, 0.0) + value.item() / recipe.accumulate
        return totals, norm

    @torch.no_grad()
    def _follow(self) -> None:
        step = self.position.step + 1
        keep = min(self.recipe.ema, step / (step + self.recipe.ema_delay - 1))
        network = self.accelerator.unwrap_model(self.objective).network
        for slow, fast in zip(self.average.parameters(), network.parameters(), strict=True):
            if fast.requires_grad:
                slow.lerp_(fast, 1 - keep)
        for kept, now in zip(self.average.buffers(), network.buffers(), strict=True):  # as batch norm's statistics
            if kept.is_floating_point():
                kept.lerp_(now, 1 - keep)
            else:
                kept.copy_(now)

    def _look(self, board: Board) -> None:
        if self.job.look is None or not self.accelerator.is_main_process:
            return
        state = self.job.rnd.getstate()
        training = self.average.training
        self.average.eval()
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            look = self.job.look(self.average)
        self.average.train(training)
        self.job.rnd.setstate(state)
        board.line(self.position.step, {f"held/{name}": value for name, value in look.figures.items()})
        if self.job.keep_best and look.figures[self.job.keep_best] > self.position.best:
            self.position.best = look.figures[self.job.keep_best]
            self.best.load_state_dict(self.average.state_dict())
        if look.grid is not None:
            board.picture(self.position.step, look.grid)

    def _share(self, seconds: float) -> float:
        """Return how much of the run is over. Several processes must agree on it, so the first one's clock counts."""
        recipe = self.recipe
        parts = [self.position.step / recipe.steps] if recipe.steps > 0 else []
        if recipe.minutes > 0:
            spent = torch.tensor(seconds / (60 * recipe.minutes), dtype=torch.float64)
            if self.accelerator.num_processes > 1:
                from accelerate.utils import broadcast

                spent = broadcast(spent.to(self.device))
            parts.append(spent.item())
        return max(parts)

    def _seed(self) -> None:
        """Let every process draw other samples."""
        seed = self.recipe.seed + 7919 * self.accelerator.process_index
        torch.manual_seed(seed)
        self.job.rnd.seed(seed)

    def _resume(self) -> None:
        found = last_checkpoint(self.folder)
        if found is None:
            return
        state = read_checkpoint(found, self._networks(), self.job.spec, self.accelerator.process_index)
        self.optimizer.load_state_dict(state["optimizer"])
        self.accelerator.unwrap_model(self.objective).critics.load_state_dict(state["critics"])
        torch.set_rng_state(state["torch"])
        if self.device.type == "cuda" and len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda"])
        self.job.rnd.setstate(state["python"])
        self.position = Position(**state["position"])


def learning_rate(recipe: LoopRecipe, step: int, share: float) -> float:
    """Return the learning rate of step 0, 1, … when `share` of the run is over."""
    fall = {"linear": 1 - share, "cosine": 0.5 + 0.5 * math.cos(math.pi * share), "constant": 1.0}[recipe.schedule]
    return recipe.learning_rate * min(1, (step + 1) / max(recipe.warmup, 1)) * max(recipe.lowest_rate, fall)


def accelerator() -> Accelerator:
    """Return where training runs: one device, or all that `accelerate launch` started. Raises OptionError without it."""
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise OptionError(f"training needs {error.name}: pip install 'unisync[train]'") from error
    # The precision is the loop's: Accelerate has one for the whole process, the stages differ.
    return Accelerator(mixed_precision="no")
