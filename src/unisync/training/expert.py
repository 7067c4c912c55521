"""Train the sync expert: each window of lips finds its sound among the batch's, and each sound its lips."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unisync.errors import OptionError, UnisyncError
from unisync.metrics.expert import KIND, load_expert
from unisync.nets.expert import Expert, ExpertConfig
from unisync.nets.weights import save_weights
from unisync.training.lateness import lateness_of, mended
from unisync.training.loop import Batch, Job, Look, Loop, LoopRecipe, Terms, accelerator
from unisync.training.mouths import Draw, Sampler, Utterance, centred, load_utterances


@dataclass(frozen=True, kw_only=True)
class ExpertRecipe(LoopRecipe):
    """How the sync expert is trained."""

    minutes: float = 14.0
    batch: int = 40
    frames: int = 24
    """Frames of a clip in a batch; its windows are each other's hard negatives."""
    speaker_power: float = 0.5
    """A speaker with twice the time is drawn 2 ** this times as often."""
    margin: int = 2
    """Windows of the same clip that are as near as this are neither right nor wrong."""
    lips_weight: float = 0.3
    """Weight of telling the lip parameters beside the contrast; only training knows them."""
    within_weight: float = 1.0
    """Weight of the contrast inside a clip beside that over the batch."""
    stuck_after: int = 400
    """Steps at chance level before training gives up."""
    earlier: str = ""
    """Weights of an earlier expert: it moves films into sync, or drops them, and training goes on from it."""
    learning_rate: float = 2e-3
    lowest_rate: float = 0.02
    warmup: int = 100
    weight_decay: float = 0.05
    ema: float = 0.995
    ema_delay: int = 20
    look_every: int = 250

    def __post_init__(self) -> None:
        super().__post_init__()
        least = ExpertConfig.frames + 2 * self.margin + 1
        if self.frames < least:
            raise OptionError(f"frames must be {least} or more for a margin of {self.margin}, not {self.frames}")


class Learner(nn.Module):
    """The expert, and what only its training needs: lip parameters told from either embedding."""

    def __init__(self, expert: Expert, num_lips: int = 6) -> None:
        super().__init__()
        self.expert = expert
        self.seen_lips = nn.Linear(expert.config.embedding, num_lips)
        self.heard_lips = nn.Linear(expert.config.embedding, num_lips)


def losses_of(learner: Learner, batch: Batch, recipe: ExpertRecipe) -> Terms:
    """Return the weighted losses: InfoNCE over the batch and inside each clip, L1 of standardised lip parameters.

    batch: mouths (B, T, h, w) in [0, 1], mel (B, 4 T, 80), lips (B, T, 6).
    """
    expert = learner.expert
    seen_raw, heard_raw = expert.seeing(batch["mouths"]), expert.hearing(batch["mel"])
    told = torch.stack([learner.seen_lips(seen_raw), learner.heard_lips(heard_raw)])
    seen, heard = F.normalize(seen_raw.float(), dim=-1), F.normalize(heard_raw.float(), dim=-1)
    clips, windows = seen.shape[:2]
    moment = torch.arange(windows, device=seen.device)
    near = ((moment[:, None] - moment).abs() <= recipe.margin) & (moment[:, None] != moment)
    half = expert.config.frames // 2
    lips = batch["lips"][:, half : half + windows]
    with torch.autocast(seen.device.type, enabled=False):
        over_batch = (seen.flatten(0, 1) @ heard.flatten(0, 1).T * expert.scale)[None]
        inside = seen @ heard.mT * expert.scale
    return {
        "batch": contrast(over_batch, torch.block_diag(*[near] * clips).bool()),
        "within": recipe.within_weight * contrast(inside, near),
        "lips": recipe.lips_weight * (told.float() - lips).abs().mean(),
    }


def contrast(logits: Tensor, near: Tensor) -> Tensor:
    """Return the mean InfoNCE loss, both ways, of logits (B, N, N) whose diagonal is right.

    near: bool (N, N), pairs off the diagonal that are neither right nor wrong.
    """
    logits = logits.masked_fill(near, -math.inf)
    goal = torch.arange(logits.shape[-1], device=logits.device).expand(len(logits), -1)
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


def train_expert(dataset: Path, work: Path, out: Path, recipe: ExpertRecipe, config: ExpertConfig) -> None:
    """Train on a dataset, in a work folder, and write the weights file. Raises UnisyncError if there is nothing to learn."""
    torch.manual_seed(recipe.seed)
    expert = copy.deepcopy(load_expert(Path(recipe.earlier))) if recipe.earlier else Expert(config)
    train = load_utterances(dataset, "train", expert.config, recipe.frames)
    held = load_utterances(dataset, "held", expert.config, recipe.frames)
    if recipe.earlier:
        train = _in_sync(train, expert, recipe.frames)
    if not train or not held:
        raise UnisyncError(
            f"{dataset} has {len(train)} clips to train on and {len(held)} held out with sound in sync and "
            f"{recipe.frames} frames or more; both are needed: prepare films with speech."
        )
    trained = fit(train, held, work, recipe, expert)
    told = asdict(replace(recipe, earlier=Path(recipe.earlier).name))
    spec = {"kind": KIND, "config": asdict(trained.config), "recipe": told}
    if accelerator().is_main_process:
        save_weights(out, {"expert": trained}, spec)


def _in_sync(train: list[Utterance], expert: Expert, frames: int) -> list[Utterance]:
    """Return what is in sync as far as an earlier expert can tell, and say how much that is."""
    lateness = lateness_of(train, expert)
    kept = mended(train, lateness, frames)
    moves = [abs(late.frames) for late in lateness.values() if late.known]
    _tell({"kept": len(kept), "of": len(train), "speakers": len(moves), "moved": sum(move >= 0.5 for move in moves)})
    return kept


def fit(train: list[Utterance], held: list[Utterance], work: Path, recipe: ExpertRecipe, expert: Expert) -> Expert:
    """Train an expert; return its moving average, telling how it does on `held` now and then."""
    learner = Learner(expert.train().requires_grad_(True)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    sampler = Sampler(train, Draw(recipe.batch, recipe.frames, recipe.speaker_power), expert.config)
    windows = recipe.frames - expert.config.frames + 1
    watch = ChanceWatch(math.log(windows - 2 * recipe.margin), recipe.stuck_after)

    def loss(network: Learner, batch: Batch) -> Terms:
        terms = losses_of(network, batch, recipe)
        if recipe.within_weight > 0:
            watch.see(terms["within"].item() / recipe.within_weight)
        return terms

    def look(network: Learner) -> Look:
        return Look(two_way(network.expert, held))

    spec = {"kind": KIND, "config": asdict(expert.config)}
    average = Loop(Job(learner, sampler.draw, loss, spec, sampler.rnd, look), recipe, work).run()
    assert isinstance(average, Learner)
    return average.expert.eval()


@torch.no_grad()
def two_way(expert: Expert, held: list[Utterance], shift: int = 5) -> dict[str, float]:
    """Return how often a window's own sound is nearer than that `shift` frames away, by how many windows are averaged."""
    expert.eval()
    device = expert.log_scale.device
    right: dict[int, list[Tensor]] = {1: [], 25: [], 50: []}
    for u in held:
        mouths, mel = centred(u.mouths, expert.config), u.mel
        seen, heard = expert.see(mouths[None].to(device))[0].cpu(), expert.hear(mel[None].to(device))[0].cpu()
        for away in (-shift, shift):
            at = torch.arange(max(0, -away), min(len(seen), len(seen) - away))
            gap = (seen[at] * (heard[at] - heard[at + away])).sum(-1)
            for num, found in right.items():
                if len(gap) >= num:
                    found.append((gap.unfold(0, num, 1).mean(-1) > 0).float())
    return {f"two_way_{num}": torch.cat(found).mean().item() for num, found in right.items() if found}


def _tell(facts: Mapping[str, float]) -> None:
    print(json.dumps({name: round(value, 3) for name, value in facts.items()}), flush=True)
