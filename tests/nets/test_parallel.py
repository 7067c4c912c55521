"""Several processes paint one window."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from small_wan import T2V, given, network
from unisync.errors import OptionError
from unisync.nets import parallel
from unisync.nets.transformer import Condition


def test_two_processes_make_what_one_makes() -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    script = Path(__file__).parent / "together.py"
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launch, str(script)], capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


def test_what_cannot_be_shared_out_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel.dist, "get_rank", lambda group: 0)
    monkeypatch.setattr(parallel.dist, "get_world_size", lambda group: 3)
    with pytest.raises(OptionError, match="2 heads cannot be shared out over 3 processes"):
        parallel.ContextParallel(network(T2V))
    monkeypatch.setattr(parallel.dist, "get_world_size", lambda group: 2)
    net = network(T2V)
    parallel.ContextParallel(net)
    z, condition = given(net)
    odd = Condition(source=z[..., :6, :6], seconds=condition.seconds, text=condition.text)
    with pytest.raises(OptionError, match="9 tokens a frame cannot be shared out over 2 processes"):
        net(z[..., :6, :6], torch.tensor([0.5]), odd)
