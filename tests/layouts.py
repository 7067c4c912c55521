"""Names and shapes of the tensors in published weights, written down from the files' own, apart from our networks.

One line a layer: its name, "conv", "norm", "line" or "slope", and its sizes; a conv with "+" has a bias.
"""

from __future__ import annotations

import torch
from torch import Tensor

SYNCNET = """
netcnnaud.0 conv+ 64 1 3 3
netcnnaud.1 norm 64
netcnnaud.4 conv+ 192 64 3 3
netcnnaud.5 norm 192
netcnnaud.8 conv+ 384 192 3 3
netcnnaud.9 norm 384
netcnnaud.11 conv+ 256 384 3 3
netcnnaud.12 norm 256
netcnnaud.14 conv+ 256 256 3 3
netcnnaud.15 norm 256
netcnnaud.18 conv+ 512 256 5 4
netcnnaud.19 norm 512
netfcaud.0 line 512 512
netfcaud.1 norm 512
netfcaud.3 line 1024 512
netfclip.0 line 512 512
netfclip.1 norm 512
netfclip.3 line 1024 512
netcnnlip.0 conv+ 96 3 5 7 7
netcnnlip.1 norm 96
netcnnlip.4 conv+ 256 96 1 5 5
netcnnlip.5 norm 256
netcnnlip.8 conv+ 256 256 1 3 3
netcnnlip.9 norm 256
netcnnlip.11 conv+ 256 256 1 3 3
netcnnlip.12 norm 256
netcnnlip.14 conv+ 256 256 1 3 3
netcnnlip.15 norm 256
netcnnlip.18 conv+ 512 256 1 6 6
netcnnlip.19 norm 512
"""

INCEPTION_STEM = "1a_3x3 32 3 3 3; 2a_3x3 32 32 3 3; 2b_3x3 64 32 3 3; 3b_1x1 80 64 1 1; 4a_3x3 192 80 3 3"
INCEPTION_35 = (
    "1x1 64 {x} 1 1; 5x5_1 48 {x} 1 1; 5x5_2 64 48 5 5; 3x3dbl_1 64 {x} 1 1; 3x3dbl_2 96 64 3 3; 3x3dbl_3 96 96 3 3; "
    "_pool {p} {x} 1 1"
)
INCEPTION_17 = (
    "1x1 192 768 1 1; 7x7_1 {c} 768 1 1; 7x7_2 {c} {c} 1 7; 7x7_3 192 {c} 7 1; 7x7dbl_1 {c} 768 1 1; "
    "7x7dbl_2 {c} {c} 7 1; 7x7dbl_3 {c} {c} 1 7; 7x7dbl_4 {c} {c} 7 1; 7x7dbl_5 192 {c} 1 7; _pool 192 768 1 1"
)
INCEPTION_8 = (
    "1x1 320 {x} 1 1; 3x3_1 384 {x} 1 1; 3x3_2a 384 384 1 3; 3x3_2b 384 384 3 1; 3x3dbl_1 448 {x} 1 1; "
    "3x3dbl_2 384 448 3 3; 3x3dbl_3a 384 384 1 3; 3x3dbl_3b 384 384 3 1; _pool 192 {x} 1 1"
)
INCEPTION_MIXED = {
    "5b": INCEPTION_35.format(x=192, p=32),
    "5c": INCEPTION_35.format(x=256, p=64),
    "5d": INCEPTION_35.format(x=288, p=64),
    "6a": "3x3 384 288 3 3; 3x3dbl_1 64 288 1 1; 3x3dbl_2 96 64 3 3; 3x3dbl_3 96 96 3 3",
    "6b": INCEPTION_17.format(c=128),
    "6c": INCEPTION_17.format(c=160),
    "6d": INCEPTION_17.format(c=160),
    "6e": INCEPTION_17.format(c=192),
    "7a": "3x3_1 192 768 1 1; 3x3_2 320 192 3 3; "
    "7x7x3_1 192 768 1 1; 7x7x3_2 192 192 1 7; 7x7x3_3 192 192 7 1; 7x7x3_4 192 192 3 3",
    "7b": INCEPTION_8.format(x=1280),
    "7c": INCEPTION_8.format(x=2048),
}
I3D_MIXED = {
    "3b": (192, 64, 96, 128, 16, 32, 32),
    "3c": (256, 128, 128, 192, 32, 96, 64),
    "4b": (480, 192, 96, 208, 16, 48, 64),
    "4c": (512, 160, 112, 224, 24, 64, 64),
    "4d": (512, 128, 128, 256, 24, 64, 64),
    "4e": (512, 112, 144, 288, 32, 64, 64),
    "4f": (528, 256, 160, 320, 32, 128, 128),
    "5b": (832, 256, 160, 320, 32, 128, 128),
    "5c": (832, 384, 192, 384, 48, 128, 128),
}


def inception() -> str:
    """Return the layers of `pt_inception-2015-12-05-6726825d.pth`."""
    lines = ["fc line 1008 2048"]
    places = [("Conv2d_", INCEPTION_STEM), *((f"Mixed_{n}.branch", text) for n, text in INCEPTION_MIXED.items())]
    for place, text in places:
        for part in text.split("; "):
            name, sizes = part.split(" ", 1)
            lines += [f"{place}{name}.conv conv {sizes}", f"{place}{name}.bn norm {sizes.split()[0]}"]
    return "\n".join(lines)


def i3d() -> str:
    """Return the layers of `rgb_imagenet.pt`."""
    units = ["Conv3d_1a_7x7 64 3 7 7 7", "Conv3d_2b_1x1 64 64 1 1 1", "Conv3d_2c_3x3 192 64 3 3 3"]
    for name, (x, a, b, c, d, e, f) in I3D_MIXED.items():
        units += [
            f"Mixed_{name}.b0 {a} {x} 1 1 1", f"Mixed_{name}.b1a {b} {x} 1 1 1", f"Mixed_{name}.b1b {c} {b} 3 3 3",
            f"Mixed_{name}.b2a {d} {x} 1 1 1", f"Mixed_{name}.b2b {e} {d} 3 3 3", f"Mixed_{name}.b3b {f} {x} 1 1 1",
        ]  # fmt: skip
    lines = ["logits.conv3d conv+ 400 1024 1 1 1"]
    for unit in units:
        name, sizes = unit.split(" ", 1)
        lines += [f"{name}.conv3d conv {sizes}", f"{name}.bn norm {sizes.split()[0]}"]
    return "\n".join(lines)


def arcface() -> str:
    """Return the layers of `w600k_r50.pth`."""
    lines = [
        "conv1 conv 64 3 3 3",
        "bn1 norm 64",
        "prelu slope 64",
        "bn2 norm 512",
        "fc line 512 25088",
        "features norm 512",
    ]
    for stage, (before, after, num) in enumerate([(64, 64, 3), (64, 128, 4), (128, 256, 14), (256, 512, 3)], 1):
        for block in range(num):
            name, x = f"layer{stage}.{block}", after if block else before
            lines += [f"{name}.bn1 norm {x}", f"{name}.conv1 conv {after} {x} 3 3", f"{name}.bn2 norm {after}"]
            lines += [
                f"{name}.prelu slope {after}",
                f"{name}.conv2 conv {after} {after} 3 3",
                f"{name}.bn3 norm {after}",
            ]
        lines += [f"layer{stage}.0.downsample.0 conv {after} {before} 1 1", f"layer{stage}.0.downsample.1 norm {after}"]
    return "\n".join(lines)


def random_state(layout: str, counters: bool = False) -> dict[str, Tensor]:
    """Return tensors of a layout's names and shapes whose signal neither dies nor explodes; counters: as newer files have."""
    draw = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = {}
    for line in layout.strip().splitlines():
        name, kind, *words = line.split()
        sizes = [int(word) for word in words]
        if kind == "slope":
            state[f"{name}.weight"] = torch.full(sizes, 0.25)
        elif kind == "norm":
            state |= {f"{name}.weight": torch.ones(sizes), f"{name}.running_var": torch.ones(sizes)}
            state |= {f"{name}.bias": torch.zeros(sizes), f"{name}.running_mean": torch.zeros(sizes)}
            if counters:
                state[f"{name}.num_batches_tracked"] = torch.tensor(1)
        else:
            fan = torch.Size(sizes[1:]).numel()
            state[f"{name}.weight"] = torch.randn(sizes, generator=draw) * (2 / fan) ** 0.5
            if kind in ("conv+", "line"):
                state[f"{name}.bias"] = torch.randn(sizes[0], generator=draw) * 0.1
    return state
