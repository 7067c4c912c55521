"""What a method asks of a backbone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from unisync.nets.transformer import Condition
from unisync.options import DubOptions, Solver
from unisync.registry import load, names
from unisync.types import Pixels, Sound, Window

Told = Literal["audio", "text", "reference"]
"""What a velocity may know of: the speech, with the lips that it asks for; the text; clean frames beside the film."""


@dataclass(frozen=True)
class Geometry:
    """canvas: side in px.  length, overlap: frames a window, and those it shares with the next.

    channels, spatial and temporal stride: of the latents.  Above a temporal stride of 1, shorter windows will do, too.
    cell: where a part of a canvas can be painted alone, its edges lie at multiples of so many px; None: it is all or nothing.
    """

    canvas: int
    length: int
    channels: int
    spatial_stride: int
    temporal_stride: int
    overlap: int = 2
    cell: int | None = None


@dataclass(frozen=True)
class Part:
    """The rectangle of a canvas that is painted: rows [top, bottom) and columns [left, right), px."""

    top: int
    bottom: int
    left: int
    right: int

    def pixels(self, canvases: Pixels) -> Pixels:
        """Return this part of canvases (T, S, S, 3)."""
        return canvases[:, self.top : self.bottom, self.left : self.right]

    def latents(self, values: Tensor, stride: int) -> Tensor:
        """Return this part of what has a value for every latent of the whole canvas (..., h, w)."""
        top, bottom, left, right = (edge // stride for edge in (self.top, self.bottom, self.left, self.right))
        return values[..., top:bottom, left:right]

    def laid(self, painted: Pixels, canvases: Pixels) -> Pixels:
        """Return the canvases (T, S, S, 3) with this part painted."""
        if painted.shape == canvases.shape:
            return painted
        made = canvases.copy()
        made[:, self.top : self.bottom, self.left : self.right] = painted
        return made


@dataclass(frozen=True)
class Habits:
    """How weights are meant to be used, where neither a person nor a method says it; `DubOptions` says what each is.

    start: None leaves it to the method.  pose: whether one is followed; None: these weights have no place for it.
    carry: whether windows go on from one another even if the method would paint them side by side.
    """

    steps: int
    shift: float = 1.0
    solver: Solver = "euler"
    start: float | None = None
    pose: bool | None = True
    carry: bool = False


@dataclass(frozen=True)
class Guide:
    """A link of guidance: the change that it makes to tell something more is taken scale * curve(sigma) times."""

    tells: frozenset[Told]
    scale: float = 1.0
    curve: Callable[[float], float] | None = None


@dataclass(frozen=True, eq=False)
class Lips:
    """Lip parameters that steer beside the sound. mean, spread: (6,), canvas sides, of the films learnt from.

    gain: how much the regressed ones must be spread to move as much as real lips do.
    """

    mean: Tensor
    spread: Tensor
    gain: float

    @property
    def closed(self) -> Tensor:
        """The standardised parameters (6,) of closed lips at rest."""
        return -self.mean / self.spread


@dataclass(frozen=True, eq=False)
class Given:
    """What there is to know of a window. source, pose: latents (1, C, F', h, w).  lips: (F, 6), standardised.

    before: uint8 (n, S, S, 3), what was painted of the window's first frames already.
    part: of the canvases, whose latents these are; None: the whole.
    """

    window: Window
    source: Tensor
    pose: Tensor | None = None
    lips: Tensor | None = None
    before: Pixels | None = None
    part: Part | None = None


class Backbone(Protocol):
    """Pixels to latents and back, speech to what the network hears, and the velocity between noise and data."""

    @property
    def geometry(self) -> Geometry: ...

    @property
    def habits(self) -> Habits: ...

    @property
    def guides(self) -> tuple[Guide, ...]:
        """How guidance is told, link by link: each tells what those before it did, and more."""

    @property
    def lips(self) -> Lips | None:
        """The lip parameters that it is steered by; None: by sound alone."""

    @property
    def device(self) -> torch.device:
        """Where the networks lie."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the report says of the backbone, plain numbers and words."""

    def encode(self, pixels: Pixels) -> Tensor:
        """Return latents (1, C, F', h, w) of canvases uint8 (F, S, S, 3)."""

    def decode(self, z: Tensor) -> Pixels:
        """Return canvases uint8 (F, S, S, 3) of latents (1, C, F', h, w)."""

    def listen(self, sound: Sound) -> Any:
        """Return a 16 kHz speech as `condition` takes it; where lips steer, a `SpeechFeatures`."""

    def condition(self, given: Given, speech: Any) -> Condition:
        """Return all that the network may be told of one window, on the backbone's device."""

    def velocities(
        self, z: Tensor, sigma: float, condition: Condition, told: Sequence[frozenset[Told]]
    ) -> list[Tensor]:
        """Return velocities (1, C, F', h, w) at noise level sigma, one for each set of what is told."""


def chosen_backbone(options: DubOptions) -> Backbone:
    """Return the backbone that the options ask for, by its name or by its files; else the embedded one."""
    wanted = options.backbone or "mini"
    backbone: Backbone = load("backbone", wanted if wanted in names("backbone") else "wan").from_options(options)
    return backbone
