"""Several processes paint one film: the first does all of it but the network's forwards, in which the others take part.

`torchrun --nproc-per-node N -m unisync dub …` starts them. What the first is about to compute it sends to the others.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from unisync.backbones.device import device_of
from unisync.errors import OptionError
from unisync.nets.parallel import ContextParallel
from unisync.nets.transformer import Condition, Transformer
from unisync.nets.wan.families import FAMILIES
from unisync.nets.wan.memory import Work
from unisync.options import DubOptions

BEGIN, END = "begin", "end"
PATIENCE = timedelta(days=7)
"""How long the others wait while the first looks at a film; if it dies, torchrun ends them."""
LEADS: ContextVar[bool] = ContextVar("leads", default=False)


@contextmanager
def leading(options: DubOptions) -> Iterator[None]:
    """Let a public model that is put together meanwhile be computed by all processes; nothing where there is one."""
    if LEADS.get() or int(os.environ.get("WORLD_SIZE", "1")) == 1 or not dist.is_torchelastic_launched():
        yield
        return
    join(options)
    token = LEADS.set(True)
    try:
        yield
    finally:
        LEADS.reset(token)
        _send(END)
        dist.destroy_process_group()


def join(options: DubOptions) -> torch.device:
    """Meet the other processes and return this one's device."""
    kind = device_of(options.device)
    if kind == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo", timeout=PATIENCE)
    return torch.device(kind)


def begin(work: Work, options: DubOptions) -> None:
    """Let the others load the network. Raises OptionError, before they do, if its work cannot be shared out."""
    num, heads = dist.get_world_size(), FAMILIES[work.family].size.heads
    if heads % num or work.tokens % num:
        raise OptionError(
            f"{heads} heads and {work.tokens} tokens a frame cannot be shared out over {num} processes: "
            "take a number that divides both, or another canvas"
        )
    if options.compile:
        raise OptionError("compile: blocks of which several processes compute a part are not compiled; leave it out")
    _send(BEGIN)


def take_part(network: Transformer, device: torch.device) -> None:
    """Compute this process's part of whatever the first computes, until it is done."""
    ContextParallel(network)
    while (call := received()) != END:
        z, level, condition = call
        with torch.no_grad():
            network(z.to(device), level.to(device), _on(device, condition))


class Shared:
    """A network of which every process computes a part, as the first one calls it."""

    def __init__(self, network: Transformer) -> None:
        self.network = network
        ContextParallel(network)
        # Windows may be painted side by side, and all processes must compute them in one order.
        self._alone = threading.Lock()

    def __call__(self, z: Tensor, level: Tensor, condition: Condition) -> Tensor:
        with self._alone:
            host = torch.device("cpu")
            _send((z.to(host), level.to(host), _on(host, condition)))
            out: Tensor = self.network(z, level, condition)
        return out


def received() -> Any:
    """Return what the first process sends next."""
    held: list[Any] = [None]
    dist.broadcast_object_list(held, src=0, device=torch.device("cpu"))
    return held[0]


def _send(what: Any) -> None:
    dist.broadcast_object_list([what], src=0, device=torch.device("cpu"))


def _on(device: torch.device, condition: Condition) -> Condition:
    return replace(condition, **{name: value.to(device) for name, value in condition.tensors.items()})
