"""Where backbones run."""

from __future__ import annotations

import torch

from unisync.errors import OptionError


def device_of(wish: str) -> str:
    """Return torch's name of the device. Raises OptionError if it is not there."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wish == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if there[name])
    if not there[wish]:
        raise OptionError(f"device {wish}: PyTorch {torch.__version__} sees none on this machine; take --device cpu")
    return wish
