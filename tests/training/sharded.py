"""Started in several processes by test_large: gradients with shared-out weights are those of a whole network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))

from small_wan import T2V, given, network
from unisync.nets.transformer import Transformer
from unisync.training.large import Changes, LargeRecipe, edit_loss, prepare_network, shard
from unisync.training.loop import Batch, accelerator
from unisync.training.lora import LoraRecipe


class Objective(torch.nn.Module):
    """The loss as a module of what is trained, as the loop has it."""

    def __init__(self, net: Transformer, changes: Changes, batch: Batch) -> None:
        super().__init__()
        self.changes = changes
        self._loss = lambda: edit_loss(net, batch, LargeRecipe(steps=1))

    def forward(self) -> torch.Tensor:
        torch.manual_seed(7)
        return self._loss()


def gradient(objective: Any, changes: Changes) -> torch.Tensor:
    """Return the gradient of the changes."""
    objective().backward()
    return torch.cat([value.grad.flatten() for value in changes.parameters() if value.grad is not None])


def made() -> tuple[Transformer, Changes]:
    net = network(T2V, editing=True)
    changes = prepare_network(net, LoraRecipe(rank=4), checkpointing=True)
    torch.manual_seed(3)
    for value in changes.parameters():
        torch.nn.init.normal_(value, std=0.05)
    return net, changes


def main() -> None:
    process = accelerator()
    net, changes = made()
    z, condition = given(net, T2V)
    batch = condition.tensors
    batch |= {"target": z, "mask": torch.ones_like(z[:, :1])}
    torch.manual_seed(1 + process.process_index)
    noisy = {**batch, "target": z + torch.randn_like(z)}  # each process has its own window
    alone = gradient(Objective(net, changes, noisy), changes)
    mean = process.reduce(alone, "mean")
    net, changes = made()
    shard(net, changes, process.num_processes, process.device)
    weight = net.blocks[0].ffn[0].base_layer.weight
    together = gradient(process.prepare(Objective(net, changes, noisy)), changes)
    assert weight.to_local().numel() * process.num_processes == weight.numel()
    error = ((together - mean).norm() / mean.norm()).item()
    assert error < 1e-5 and mean.norm() > 0, error
    assert process.num_processes == 2 and (alone - mean).norm() > 1e-3 * mean.norm()


if __name__ == "__main__":
    main()
