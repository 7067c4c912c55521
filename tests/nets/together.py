"""Started in two processes by test_parallel: what they make together is what one makes alone."""

from __future__ import annotations

import sys
from pathlib import Path

import torch.distributed as dist

sys.path.append(str(Path(__file__).resolve().parents[1]))

from small_wan import T2V, network, painted
from unisync.nets.parallel import ContextParallel
from unisync.nets.step_cache import StepCache


def main() -> None:
    dist.init_process_group("gloo")
    assert dist.get_world_size() == 2
    for key in (T2V, "fantasytalking", "wan2.2-s2v-14b", "x-dub-5b"):
        net = network(key)
        alone = painted(net, key=key)
        calls: list[int] = []
        net.blocks[0].self_attn.register_forward_pre_hook(lambda _, args, calls=calls: calls.append(args[0].shape[1]))
        painted(net, key=key)
        StepCache(net, 0.0)
        ContextParallel(net)
        together = painted(net, key=key)
        error = ((together - alone).norm() / alone.norm()).item()
        assert error < 1e-5 and alone.abs().max() > 0.01, (key, error)
        whole, half = calls
        assert whole == 2 * half, (key, calls)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
