"""Teach a large public model to edit: a LoRA in its blocks, the source's channels and the pose encoder in full.

What is trained is small and lies whole in every process, where Accelerate shares its gradients; what is frozen may be
shared out over the processes, block by block.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

from unisync import flow
from unisync.errors import OptionError
from unisync.nets.lora import PREFIX
from unisync.nets.precision import computes_bf16
from unisync.nets.transformer import Condition, Transformer
from unisync.nets.wan.editing import ADDED, FULL, KIND
from unisync.nets.wan.families import FAMILIES
from unisync.nets.wan.files import WeightFiles
from unisync.nets.wan.memory import spatial_stride
from unisync.nets.wan.models import load_transformer
from unisync.nets.wan.vae import TEMPORAL_STRIDE
from unisync.nets.weights import write_tensors
from unisync.options import BACKBONE_PARTS, DubOptions
from unisync.training.loop import Batch, Job, Look, Loop, Terms, accelerator
from unisync.training.lora import LoraRecipe, add_lora
from unisync.training.model_windows import make_windows
from unisync.training.pairs import PairedRecipe
from unisync.training.windows import ByLevel, Windows

if TYPE_CHECKING:
    from accelerate import Accelerator

NEW_CHANNELS = "patch_embedding.parametrizations.weight.original"
HELD = 4
"""Held-out windows that are looked at."""


@dataclass(frozen=True, kw_only=True)
class LargeRecipe(PairedRecipe):
    """How a large model is taught. Its parts are named, and looked for, as dubbing has them."""

    backbone: str = ""
    """The model's file or folder."""
    adapter: str = ""
    """What lets it hear, if that is a file of its own."""
    vae: str = ""
    audio_encoder: str = ""
    image_encoder: str = ""
    text: str = ""
    canvas: int = 0
    """Side of the canvases, at most the dataset's; 0: as the model is used to."""
    length: int = 0
    """Frames of a window, 4n + 1; 0: as the model is used to."""
    vae_tiling: bool = False
    windows: str = ""
    """Folder with `train` and `held` of what `fill_windows` wrote, instead of the dataset's in the work folder."""
    minutes: float = 600.0
    batch: int = 1
    accumulate: int = 8
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    ema: float = 0.99
    shift: float = 5.0
    """Of the noise levels, as the model is sampled."""
    outside_weight: float = 0.1
    """Weight of the loss outside the mouth."""
    drop_audio: float = 0.1
    checkpointing: bool = True
    """Blocks are computed again in the backward pass instead of kept."""
    shard: bool = False
    """Of several processes each holds a part of the frozen weights. Held-out windows are not looked at then."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.drop_audio <= 1:
            raise OptionError(f"drop_audio is a probability, from 0 to 1, not {self.drop_audio:g}")

    def options(self, device: str) -> DubOptions:
        """Return the model and its parts as dubbing takes them. Raises OptionError."""
        names = ("backbone", *BACKBONE_PARTS)
        given = {name: value for name in names if (value := getattr(self, name))}
        return DubOptions.from_dict({"device": device, **given})


class Changes(nn.Module):
    """What is trained of a network, and nothing else: the same parameters under the same names."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        for name, value in net.named_parameters():
            if value.requires_grad:
                self.register_parameter(name.replace(".", "/"), value)

    def by_name(self) -> dict[str, Tensor]:
        """Return them by their names in the network."""
        return {name.replace("/", "."): value for name, value in self.named_parameters()}


class _Widened(nn.Module):
    """A patch embedding's weight of which the last channels are trained."""

    def __init__(self, old: Tensor) -> None:
        super().__init__()
        self.register_buffer("old", old)

    def forward(self, added: Tensor) -> Tensor:
        old = self.get_buffer("old")
        return torch.cat([old, added.to(old.dtype)], dim=1)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight[:, self.get_buffer("old").shape[1] :].clone()


def prepare_network(net: Transformer, lora: LoraRecipe, checkpointing: bool) -> Changes:
    """Freeze an editing network but for a LoRA, the source's channels and the pose encoder, which get float32."""
    net.requires_grad_(False)
    add_lora(net, lora)
    patch, num = net.patch_embedding, net.config.channels
    old = patch.weight.detach()[:, :-num].clone()
    parametrize.register_parametrization(patch, "weight", _Widened(old), unsafe=True)
    for name, value in net.named_parameters():
        if name.startswith(FULL) or name == NEW_CHANNELS:
            value.requires_grad_(True)
        if value.requires_grad:
            value.data = value.data.float()
    if checkpointing:
        for block in net.blocks:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    return Changes(net)


def shard(net: Transformer, changes: Changes, num: int, device: torch.device) -> None:
    """Share the frozen weights out over processes; each block's are gathered while it is computed (PyTorch's FSDP)."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh, whole = init_device_mesh(device.type, (num,)), set(changes.parameters())
    for module in [*net.blocks, net]:
        fully_shard(module, mesh=mesh, ignored_params=whole)


def draw_level(recipe: LargeRecipe, rnd: random.Random) -> float:
    """Return a noise level as `edit_loss` draws them."""
    return float(flow.shifted(torch.tensor(rnd.random()), recipe.shift))


def edit_loss(net: Transformer, batch: Batch, recipe: LargeRecipe) -> Tensor:
    """Return the velocity loss (Eq 3), the mouth weighted over the rest.

    Levels are the batch's if it has any, else random.
    """
    target, sigma = batch["target"], batch.get("sigma")
    if sigma is None:
        sigma = flow.shifted(torch.rand(len(target)), recipe.shift).to(target.device)
    noise = torch.randn(target.shape).to(target.device)
    names = {item.name for item in fields(Condition)}
    told: dict[str, Any] = {name: value for name, value in batch.items() if name in names}
    condition = Condition(**told)
    found = net(flow.noised(target, noise, sigma.view(-1, 1, 1, 1, 1)), sigma, condition).float()
    error = (found - flow.target_velocity(target, noise)).square()
    return (error * (recipe.outside_weight + batch["mask"])).mean()


def train_large(recipe: LargeRecipe, lora: LoraRecipe, dataset: Path, work: Path, out: Path) -> None:
    """Train, or go on, and write what `apply_editing` reads. Raises UnisyncError."""
    if not recipe.backbone:
        raise OptionError("wan: 'backbone' names the model's file; give it")
    process = accelerator()
    windows, held = _windows(recipe, dataset, work, process)
    torch.manual_seed(recipe.seed)
    files = WeightFiles(Path(recipe.backbone))
    beside = WeightFiles(Path(recipe.adapter)) if recipe.adapter else None
    family = (beside or files).recognise().family
    dtype = torch.bfloat16 if computes_bf16(process.device.type) else torch.float32
    net = load_transformer(files, beside, dtype=dtype, editing=True)
    if process.num_processes == 1 or not recipe.shard:
        net.to(process.device)
    changes = prepare_network(net, lora, recipe.checkpointing)
    if recipe.shard and process.num_processes > 1:
        shard(net, changes, process.num_processes, process.device)
        changes.to(process.device)
    spec = {"kind": KIND, "family": family, "lora": json.loads(json.dumps(vars(lora)))}
    frames, side = windows.size
    spec |= {"canvas": side * spatial_stride(FAMILIES[family]), "length": TEMPORAL_STRIDE * (frames - 1) + 1}
    trained = fit(net, changes, (windows, held), recipe, work / "wan", spec)
    if process.is_main_process:
        save_editing(out, trained, spec)
    process.wait_for_everyone()


def _windows(recipe: LargeRecipe, dataset: Path, work: Path, process: Accelerator) -> tuple[Windows, Windows | None]:
    """Return the windows to train on and, if they are looked at, the held-out ones."""
    folder = Path(recipe.windows)
    if not recipe.windows:
        folder = make_windows(recipe.options(process.device.type), dataset, work, process, recipe)
    by_level = ByLevel(recipe.paired, recipe.paired_above, partial(draw_level, recipe)) if recipe.paired else None
    train, there = Windows(folder / "train", by_level), folder / "held"
    if by_level and process.is_main_process:
        print(f"{folder / 'train'}: {train.num_paired} of {len(train.files)} windows have a pseudo-pair", flush=True)
    return train, Windows(there, by_level) if any(there.glob("*.pt")) and not recipe.shard else None


def fit(
    net: Transformer,
    changes: Changes,
    windows: tuple[Windows, Windows | None],
    recipe: LargeRecipe,
    folder: Path,
    spec: dict[str, Any],
) -> Changes:
    """Run the loop on windows to train on and held-out ones, and return the average of the changes."""
    rnd, (own, held) = random.Random(recipe.seed), windows

    def loss(_: Changes, batch: Batch) -> Terms:
        return {"velocity": edit_loss(net, batch, recipe)}

    def look(average: Changes) -> Look:
        assert held is not None
        batch = held.batch(held.files[:HELD], random.Random(0))
        device = next(average.parameters()).device
        with standing_in(net, average):
            value = edit_loss(net, {name: each.to(device) for name, each in batch.items()}, recipe)
        return Look({"velocity": float(value)})

    job = Job(
        network=changes,
        draw=lambda: own.draw(recipe.batch, rnd, recipe.drop_audio),
        loss=loss,
        spec=spec,
        rnd=rnd,
        look=look if held else None,
    )
    average = Loop(job, recipe, folder).run()
    assert isinstance(average, Changes)
    return average


@contextmanager
def standing_in(net: nn.Module, changes: Changes) -> Iterator[None]:
    """Let a network have other changes for a while."""
    others, kept = changes.by_name(), {}
    for name, value in net.named_parameters():
        if name in others:
            kept[name], value.data = value.data, others[name].data
    try:
        yield
    finally:
        for name, value in net.named_parameters():
            if name in kept:
                value.data = kept[name]


def save_editing(path: Path, changes: Changes, spec: dict[str, Any]) -> None:
    """Write the changes."""
    tensors: dict[str, Tensor] = {}
    for name, value in changes.by_name().items():
        if name == NEW_CHANNELS:
            name = ADDED
        elif not name.startswith(FULL):
            name = PREFIX + name.replace(".default.", ".")
        tensors[name] = value.detach().float().cpu().contiguous()
    lora = spec["lora"]
    config = {"peft_type": "LORA", "r": lora["rank"], "lora_alpha": lora["alpha"], "target_modules": lora["targets"]}
    write_tensors(path, tensors, {**spec, "lora": config})
