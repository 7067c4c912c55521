"""Train the sync expert: each window of lips finds its sound among the batch's, and each sound its lips."""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unisync.errors import UnisyncError
from unisync.metrics.expert import KIND, load_expert
from unisync.nets.expert import Expert, ExpertConfig
from unisync.nets.weights import save_weights
from unisync.train.lateness import lateness_of, mended
from unisync.train.mouths import Batch, Draw, Sampler, Utterance, centred, load_utterances


@dataclass(frozen=True)
class ExpertRecipe:
    """How the sync expert is trained."""

    minutes: float = 14.0
    steps: int = 0
    """Training ends after so many steps, or the minutes, whichever comes first; 0 is no limit."""
    draw: Draw = field(default_factory=Draw)
    margin: int = 2
    """Windows of the same clip that are as near as this are neither right nor wrong."""
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup: int = 100
    lips_weight: float = 0.3
    """Weight of telling the lip parameters beside the contrast; only training knows them."""
    within_weight: float = 1.0
    """Weight of the contrast inside a clip beside that over the batch."""
    earlier: str = ""
    """Weights of an earlier expert: it moves films into sync, or drops them, and training goes on from it."""
    stuck_after: int = 400
    """Steps at chance level before training gives up."""
    ema: float = 0.995
    check_every: int = 250
    seed: int = 0


class Learner(nn.Module):
    """The expert, and what only its training needs: lip parameters told from either embedding."""

    def __init__(self, expert: Expert, num_lips: int = 6) -> None:
        super().__init__()
        self.expert = expert
        self.seen_lips = nn.Linear(expert.config.embedding, num_lips)
        self.heard_lips = nn.Linear(expert.config.embedding, num_lips)


@dataclass(frozen=True, eq=False)
class Losses:
    """batch, within: InfoNCE over the batch and inside each clip.  lips: L1 error of standardised lip parameters."""

    batch: Tensor
    within: Tensor
    lips: Tensor


def losses_of(learner: Learner, batch: Batch, margin: int) -> Losses:
    """Return the losses of a batch."""
    expert = learner.expert
    learner.train()
    with torch.autocast("cpu", torch.bfloat16):
        seen_raw, heard_raw = expert.seeing(batch.mouths), expert.hearing(batch.mel)
        told = torch.stack([learner.seen_lips(seen_raw), learner.heard_lips(heard_raw)])
    seen, heard = F.normalize(seen_raw.float(), dim=-1), F.normalize(heard_raw.float(), dim=-1)
    clips, windows = seen.shape[:2]
    moment = torch.arange(windows)
    near = ((moment[:, None] - moment).abs() <= margin) & (moment[:, None] != moment)
    same = torch.block_diag(*[near] * clips)
    logits = (seen.flatten(0, 1) @ heard.flatten(0, 1).T * expert.scale)[None]
    within = seen @ heard.mT * expert.scale
    half = expert.config.frames // 2
    lips = batch.lips[:, half : half + windows]
    return Losses(contrast(logits, same), contrast(within, near), (told.float() - lips).abs().mean())


def contrast(logits: Tensor, near: Tensor) -> Tensor:
    """Return the mean InfoNCE loss, both ways, of logits (B, N, N) whose diagonal is right.

    near: bool (N, N), pairs off the diagonal that are neither right nor wrong.
    """
    logits = logits.masked_fill(near, -math.inf)
    goal = torch.arange(logits.shape[-1]).expand(len(logits), -1)
    return (F.cross_entropy(logits.mT, goal) + F.cross_entropy(logits, goal)) / 2


class ChanceWatch:
    """Stops a training whose loss stays where guessing would leave it.

    chance: the loss of guessing: ln 2 for a yes or no, ln N for one of N.
    """

    def __init__(self, chance: float, patience: int, slack: float = 0.03) -> None:
        self.chance, self.patience, self.slack = chance, patience, slack
        self._mean: float | None = None
        self._steps = 0

    def see(self, loss: float) -> None:
        """Take a step's loss. Raises UnisyncError after `patience` steps at chance level, or if it is not a number."""
        if not math.isfinite(loss):
            raise UnisyncError(f"the sync expert's loss is {loss}: lower the learning rate.")
        self._mean = loss if self._mean is None else 0.95 * self._mean + 0.05 * loss
        self._steps = self._steps + 1 if self._mean > self.chance * (1 - self.slack) else 0
        if self._steps >= self.patience:
            raise UnisyncError(
                f"the sync expert's loss has stayed at chance level ({self._mean:.3f}, guessing gives {self.chance:.3f}) "
                f"for {self._steps} steps: it learns nothing. Look whether the films' sound is in sync with their lips "
                "and belongs to the face, whether the learning rate is too high or too low, the batch too small, "
                "or the sound silent or wrongly normalised."
            )


def train_expert(dataset: Path, out: Path, recipe: ExpertRecipe, config: ExpertConfig) -> None:
    """Train on a dataset and write the weights file. Raises UnisyncError if there is nothing to learn from."""
    torch.manual_seed(recipe.seed)
    expert = copy.deepcopy(load_expert(Path(recipe.earlier))) if recipe.earlier else Expert(config)
    train = load_utterances(dataset, "train", expert.config, recipe.draw.frames)
    held = load_utterances(dataset, "held", expert.config, recipe.draw.frames)
    if recipe.earlier:
        train = _in_sync(train, expert, recipe.draw.frames)
    if not train or not held:
        raise UnisyncError(
            f"{dataset} has {len(train)} clips to train on and {len(held)} held out with sound in sync and "
            f"{recipe.draw.frames} frames or more; both are needed: prepare films with speech."
        )
    trained = fit(train, held, recipe, expert)
    save_weights(out, {"expert": trained}, {"kind": KIND, "config": asdict(trained.config), "recipe": asdict(recipe)})


def _in_sync(train: list[Utterance], expert: Expert, frames: int) -> list[Utterance]:
    """Return what is in sync as far as an earlier expert can tell, and say how much that is."""
    lateness = lateness_of(train, expert)
    kept = mended(train, lateness, frames)
    moves = [abs(late.frames) for late in lateness.values() if late.known]
    _tell({"kept": len(kept), "of": len(train), "speakers": len(moves), "moved": sum(move >= 0.5 for move in moves)})
    return kept


def fit(train: list[Utterance], held: list[Utterance], recipe: ExpertRecipe, expert: Expert) -> Expert:
    """Train an expert; return its moving average, telling how it does on `held` now and then."""
    config = expert.config
    sampler = Sampler(train, recipe.draw, config)
    learner = Learner(expert.requires_grad_(True)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(learner)
    optimizer = torch.optim.AdamW(learner.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    windows = recipe.draw.frames - config.frames + 1
    watch = ChanceWatch(math.log(windows - 2 * recipe.margin), recipe.stuck_after)
    begun, step = time.monotonic(), 0
    while (share := share_of(recipe, step, time.monotonic() - begun)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * min(1, step / recipe.warmup) * max(0.02, 1 - share)
        losses = losses_of(learner, sampler.draw(), recipe.margin)
        loss = losses.batch + recipe.within_weight * losses.within + recipe.lips_weight * losses.lips
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
        watch.see(losses.within.item())
        follow(average, learner, 1 - min(recipe.ema, step / (step + 20)))
        step += 1
        if step % recipe.check_every == 0:
            facts = {name: value.item() for name, value in vars(losses).items()}
            _tell({"step": step, "share": share, **facts, **two_way(average.expert, held)})
    _tell({"step": step, **two_way(average.expert, held)})
    return average.expert.eval()


def share_of(recipe: ExpertRecipe, step: int, seconds: float) -> float:
    """Return how much of a training is over."""
    return max(seconds / (60 * recipe.minutes), step / recipe.steps if recipe.steps else 0.0)


@torch.no_grad()
def follow(slow: nn.Module, fast: nn.Module, share: float) -> None:
    """Move weights and statistics by a share of the way to another module's."""
    for ours, theirs in zip(slow.state_dict().values(), fast.state_dict().values(), strict=True):
        if ours.is_floating_point():
            ours.lerp_(theirs, share)
        else:
            ours.copy_(theirs)


@torch.no_grad()
def two_way(expert: Expert, held: list[Utterance], shift: int = 5) -> dict[str, float]:
    """Return how often a window's own sound is nearer than that `shift` frames away, by how many windows are averaged."""
    expert.eval()
    right: dict[int, list[Tensor]] = {1: [], 25: [], 50: []}
    for u in held:
        seen, heard = expert.see(centred(u.mouths, expert.config)[None])[0], expert.hear(u.mel[None])[0]
        for away in (-shift, shift):
            at = torch.arange(max(0, -away), min(len(seen), len(seen) - away))
            gap = (seen[at] * (heard[at] - heard[at + away])).sum(-1)
            for num, found in right.items():
                if len(gap) >= num:
                    found.append((gap.unfold(0, num, 1).mean(-1) > 0).float())
    return {f"two_way_{num}": torch.cat(found).mean().item() for num, found in right.items() if found}


def _tell(facts: Mapping[str, float]) -> None:
    print(json.dumps({name: round(value, 3) for name, value in facts.items()}), flush=True)


def main() -> None:
    """Train: python -m unisync.train.expert DATASET OUT [--minutes N] [--earlier WEIGHTS]."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=ExpertRecipe.minutes)
    parser.add_argument("--earlier", default="", help="weights to move films into sync by, and to go on from")
    given = parser.parse_args()
    recipe = ExpertRecipe(minutes=given.minutes, earlier=given.earlier)
    try:
        train_expert(given.dataset, given.out, recipe, ExpertConfig())
    except UnisyncError as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()
