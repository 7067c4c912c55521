"""OmniSync (arXiv 2505.21448): the whole face edited without a mask, from a progressive start, under DS-CFG."""

from __future__ import annotations

from unisync.backbones.base import Backbone
from unisync.methods.editing import Editor, Manner
from unisync.options import DubOptions

TAU = 0.92
"""Where painting starts (Eq 5, 6)."""
MANNER = Manner(source_lips="as_is", start=TAU, tau_inj=0.0, guidance_mode="dynamic", composite="none", carry=True)


class Omnisync(Editor):
    """Painting on the film as it is, guided most at the mouth and in noise (Eq 7-9), window after window."""

    def __init__(self, options: DubOptions, backbone: Backbone | None = None) -> None:
        super().__init__(options, MANNER, backbone)
