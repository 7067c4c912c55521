"""UniSync (arXiv 2603.03882): mask-free editing anchored by pose, with temporal-adaptive latent injection (TALI)."""

from __future__ import annotations

from unisync.backbones.base import Backbone
from unisync.methods.editing import Editor, Manner
from unisync.options import DubOptions

MANNER = Manner(
    source_lips="nearest", start=None, tau_inj=0.8, guidance_mode="static", composite="gaussian", carry=False
)


class Unisync(Editor):
    """Painting on the shot's own mouths, all but the mouth held to the film (Algorithm 1), blended in by a Gaussian (Eq 12)."""

    def __init__(self, options: DubOptions, backbone: Backbone | None = None) -> None:
        super().__init__(options, MANNER, backbone)
