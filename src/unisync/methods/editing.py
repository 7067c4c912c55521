"""What methods that edit a film's latents share: the lips painted over, the start, the steps, guidance, what is held.

UniSync and OmniSync are this with other defaults (`Manner`), so that each may use what the other brings.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unisync import flow
from unisync.audio.encoder import SpeechFeatures
from unisync.backbones.base import Backbone, Given, Guide, Part, chosen_backbone
from unisync.errors import OptionError
from unisync.mask import LIPS, mouth_mask
from unisync.methods.abreast import abreast
from unisync.methods.base import Keep, Performer, Spec, anew
from unisync.methods.detail import LipsDetail
from unisync.methods.lending import Lender, Lent
from unisync.methods.pose import draw_pose
from unisync.mouth import closed, neutralised
from unisync.options import Composite, DubOptions, Guidance, SourceLips
from unisync.types import Floats, Mouths, Pixels, Sound, Track, Window

CLOSED, LENT, MADE_UP = 0.9, 0.72, 0.65
"""Where painting starts by itself: from closed lips everything has to be painted, from lent ones what does not fit; where
a third of what they show had to be made up, as in a still, it would turn to blotches from higher."""
SHARED_NOISE = 0.3
"""Share of the noise's variance that is the same in all frames: what the model invents then stays put between frames."""
FACE_SIDES = (234, 454)
JOINED = 1
"""Frames that neighbouring windows share where mouths are lent: what they paint over is the same for both."""
POSE_SECONDS = 0.1
"""About how far apart the frames lie whose pose is encoded, where an autoencoder takes single frames; others lie between."""
AROUND = 1 / 32
"""How far beyond the mask is looked at, in canvas sides."""
Weight = Callable[[float], Tensor | float]
"""Noise level -> scale of guidance."""


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How a method goes about it where the options leave it open; what each is, `DubOptions` says.

    start: None is by how much there is to paint.  guidance: the scale of the static one; None is the backbone's own.
    """

    source_lips: SourceLips
    start: float | None
    tau_inj: float
    guidance_mode: Guidance
    composite: Composite
    carry: bool
    guidance: float | None = None

    def said(self, options: DubOptions) -> Manner:
        """Return this with what the options do say. A scale of static guidance asks for static guidance."""
        given = {item.name: getattr(options, item.name) for item in fields(self)}
        if options.guidance is not None:
            given["guidance_mode"] = "static"
        return replace(self, **{name: value for name, value in given.items() if value is not None})


class Editor:
    """The method on any backbone; on the one that the options name unless one is given.

    Raises OptionError if they ask for what the backbone cannot do.
    """

    def __init__(self, options: DubOptions, manner: Manner, backbone: Backbone | None = None) -> None:
        self.backbone = backbone or chosen_backbone(options)
        self.options, self.manner = options, manner.said(options)
        habits, geometry = self.backbone.habits, self.backbone.geometry
        if options.carry is None and habits.carry:
            self.manner = replace(self.manner, carry=True)
        if self.backbone.lips is None:
            self.manner = _without_lips(options, self.manner)
        _check(options, self.backbone)
        self.steps = habits.steps if options.steps is None else options.steps
        self.shift = habits.shift if options.shift is None else options.shift
        self.solver = options.solver or habits.solver
        self.pose = bool(habits.pose if options.pose is None else options.pose)
        lends = self.manner.source_lips == "nearest"
        self.spec = Spec(
            geometry.canvas,
            geometry.length,
            JOINED if lends and not self.manner.carry else geometry.overlap,
            grid=0 if geometry.temporal_stride == 1 else geometry.temporal_stride,
            lends=lends,
            composite=self.manner.composite,
            facts={"steps": self.steps, **self.backbone.facts},
        )
        self._heard: dict[int, tuple[Sound, Any]] = {}

    def begin(self, track: Track, keep: Keep = anew) -> Performer:
        return EditPerformer(self, track.name, keep)

    def listen(self, sound: Sound) -> Any:
        """Return the speech as the backbone hears it; encoded once, however many tracks speak it."""
        if id(sound) not in self._heard:
            self._heard[id(sound)] = sound, self.backbone.listen(sound)
        return self._heard[id(sound)][1]


def _check(options: DubOptions, backbone: Backbone) -> None:
    """Raise OptionError if the options ask for what a backbone has no place for."""
    if options.pose and backbone.habits.pose is None:
        raise OptionError("pose: this backbone's weights have no place for one; leave --pose out")
    if options.guidance is not None and not any("audio" in guide.tells for guide in backbone.guides):
        raise OptionError("guidance is by the speech, which this backbone does not hear; leave it out")
    if options.text_guidance is not None and all("audio" in guide.tells for guide in backbone.guides):
        raise OptionError("text_guidance: this backbone is guided by nothing but the speech; give --guidance alone")


def _without_lips(options: DubOptions, manner: Manner) -> Manner:
    """Return the manner on a backbone that regresses no lips: closed ones take the place of the nearest."""
    if options.source_lips == "nearest":
        raise OptionError(
            "source_lips nearest: only the embedded model says which lips a speech asks for; take neutral or as_is"
        )
    if options.strength != 1:
        raise OptionError("strength spreads lips that only the embedded model regresses; give --guidance instead")
    return replace(manner, source_lips="neutral") if manner.source_lips == "nearest" else manner


@dataclass(frozen=True)
class Scene:
    """window: as the film has it.  given: with the lips that are painted over.  lent: where these come from mouths lent."""

    window: Window
    given: Window
    lent: Lent | None = None


class EditPerformer:
    """One track. The noise depends on the seed, the track and the frame alone, so overlapping windows agree."""

    def __init__(self, method: Editor, name: str, keep: Keep = anew) -> None:
        self.method, self.manner, self.keep = method, method.manner, keep
        self.seed = zlib.crc32(name.encode()) ^ (method.options.seed & 0xFFFFFFFF)
        self.detail = LipsDetail(method.options.detail)
        self.lender: Lender | None = None
        alone = 1.0 if self.manner.source_lips == "masked" else method.backbone.habits.start or CLOSED
        self.start = alone if self.manner.start is None else self.manner.start
        self.missing = 1.0
        self._last: tuple[int, Pixels] | None = None

    def render(self, windows: Iterable[Window]) -> Iterator[tuple[int, Pixels]]:
        """Yield the windows' canvases with the lips of the speech, as fine as the film's own."""
        scenes = map(self.scene, windows)
        for scene, painted in self._in_turn(scenes) if self.manner.carry else self._abreast(scenes):
            made = self.detail(painted, scene.window.pixels, scene.window.landmarks)
            if self.lender is not None and scene.lent is not None:
                amount = min(1.0, self.method.options.detail)
                made = self.lender.textured(made, scene.lent, amount)
            yield scene.window.start, made

    def _abreast(self, scenes: Iterable[Scene]) -> Iterator[tuple[Scene, Pixels]]:
        return abreast(lambda scene: self.keep(scene.given, self.paint), scenes, self.method.backbone.device)

    def _in_turn(self, scenes: Iterable[Scene]) -> Iterator[tuple[Scene, Pixels]]:
        for scene in scenes:
            painted = self.keep(scene.given, self.paint)
            self._last = scene.given.start, painted
            yield scene, painted

    def scene(self, window: Window) -> Scene:
        """Return what is to be painted, other lips in place of the window's own."""
        self.method.listen(window.sound)  # here, once: windows are painted side by side
        if self.manner.source_lips == "nearest" and window.mouths is not None:
            lender = self.lender_of(window, window.mouths)
            lent = lender.lent(window, self.lips_at(window.sound, window.seconds))
            return Scene(window, lent.window, lent)
        if self.manner.source_lips in ("nearest", "neutral") and window.reference is not None:
            pixels = neutralised(window.pixels, window.landmarks, closed(window.reference))
            return Scene(window, replace(window, pixels=pixels))
        return Scene(window, window)

    @property
    def steps(self) -> int:
        """How many steps painting takes: the less there is to paint, the fewer, unless it was said how many."""
        whole, way = self.method.steps, min(1.0, self.start / CLOSED)
        return whole if self.method.options.steps is not None else max(1, round(whole * way * self.missing))

    def lender_of(self, window: Window, mouths: Mouths) -> Lender:
        """Return who lends this track its mouths; the first time, find how much of what is asked for they cannot show."""
        if self.lender is None:
            known = self.method.backbone.lips
            assert known is not None
            lender = Lender(mouths, known.spread.cpu().numpy())
            if self.manner.start is None:
                whole = self.lips_at(window.sound, np.arange(0, window.sound.seconds, 0.04))
                self.missing = 1 - lender.reach(whole[:, 0])
                self.start = LENT if self.missing < 1 / 3 else MADE_UP
            self.lender = lender
        return self.lender

    def lips_at(self, sound: Sound, seconds: NDArray[np.float64]) -> Floats:
        """Return the lips (T, 6) to paint at moments (T,) of a speech, in canvas sides."""
        known = self.method.backbone.lips
        assert known is not None
        lips = self.lips(self.method.listen(sound), torch.from_numpy(seconds).float())
        return np.asarray(lips * known.spread.cpu() + known.mean.cpu(), np.float32)

    def paint(self, window: Window) -> Pixels:
        """Return the window's canvases repainted, whatever lips they carry."""
        options, backbone = self.method.options, self.method.backbone
        if not self.steps:
            return window.pixels
        size, geometry = self.method.spec.canvas, backbone.geometry
        masks = np.stack([mouth_mask(points, size) for points in window.landmarks])
        part = self.part(masks)
        mask = flow.latent_mask(torch.from_numpy(masks)[None], geometry.temporal_stride, geometry.spatial_stride)
        mask = part.latents(mask, geometry.spatial_stride).to(backbone.device)
        source = backbone.encode(part.pixels(window.pixels))
        if self.manner.source_lips == "masked":
            source = source * (1 - mask)
        noise = self.noise(window.start, source, part)
        generator = torch.Generator().manual_seed(self.seed + window.start)
        pose = self.pose(window, part) if self.method.pose else None
        levels = flow.schedule(self.steps, self.method.shift, self.start, options.steps_counted)
        start = flow.progressive_start(source, noise, self.start)
        injections = [flow.Injection(source, mask, self.manner.tau_inj, options.tali_mode)]
        known = self.known(window, source, part)
        if known is not None:
            start = flow.inject(start, known.source, noise, known.mask, self.start)
            injections.append(known)
        velocity = self.velocity(window, source, pose, part)
        painted = backbone.decode(flow.sample(velocity, start, levels, injections, generator, self.method.solver))
        return part.laid(painted, window.pixels)

    def pose(self, window: Window, part: Part) -> Tensor:
        """Return the pose's latents (1, C, F, h, w)."""
        backbone, num = self.method.backbone, len(window)
        if backbone.geometry.temporal_stride == 1:
            span = float(window.seconds[-1] - window.seconds[0])
            num = min(num, 1 + math.ceil(span / POSE_SECONDS - 1e-6))
        shown = np.linspace(0, len(window) - 1, num).round().astype(np.intp)
        drawn = backbone.encode(part.pixels(draw_pose(window.landmarks[shown], self.method.spec.canvas)))
        if num == len(window):
            return drawn
        at = torch.from_numpy(np.interp(np.arange(len(window)), shown, np.arange(num))).to(drawn)
        return torch.lerp(drawn[:, :, at.floor().long()], drawn[:, :, at.ceil().long()], (at % 1).view(-1, 1, 1))

    def part(self, masks: Floats) -> Part:
        """Return which part of the canvases is painted, by their masks (T, S, S): what no mask reaches is not looked at.

        Where no mouths are lent it is the whole: the more there is to paint, the more a network needs to see of the face.
        """
        size, cell = masks.shape[1], self.method.backbone.geometry.cell
        if cell is None or self.lender is None or self.manner.composite == "none":
            return Part(0, size, 0, size)
        edges, around = [], round(AROUND * size)
        for axis in (2, 1):
            reached = np.flatnonzero(masks.max(axis=(0, axis)) > 0)
            low, high = (int(reached[0]), int(reached[-1]) + 1) if len(reached) else (0, size)
            edges += [max(0, low - around) // cell * cell, min(size, -(-(high + around) // cell) * cell)]
        return Part(*edges)

    def known(self, window: Window, like: Tensor, part: Part) -> flow.Injection | None:
        """Return what holds the window's first frames to what the one before painted of them, if anything did.

        Encoded anew, since the latents of an autoencoder over time depend on where its window begins.
        """
        shared = self.painted(window)
        if shared is None:
            return None
        stride = self.method.backbone.geometry.temporal_stride
        num = 1 + (len(shared) - 1) // stride
        source, mask = torch.zeros_like(like), torch.ones_like(like[:, :1])
        source[:, :, :num] = self.method.backbone.encode(part.pixels(shared[: 1 + (num - 1) * stride]))
        mask[:, :, :num] = 0
        return flow.Injection(source, mask, 1.0)

    def painted(self, window: Window) -> Pixels | None:
        """Return what the window before painted of this one's first frames, if anything."""
        if self._last is None:
            return None
        begun, made = self._last
        shared = made[window.start - begun :]
        return shared if 0 < len(shared) < len(window) and window.start > begun else None

    def noise(self, first: int, like: Tensor, part: Part) -> Tensor:
        """Return unit noise shaped like (1, C, F, h, w), each frame's own draw mixed with the track's common one.

        What a place of the canvas gets does not depend on the part that is painted.
        """
        geometry = self.method.backbone.geometry
        side, stride = geometry.canvas // geometry.spatial_stride, geometry.temporal_stride

        def draw(seed: int) -> Tensor:
            generator = torch.Generator().manual_seed(seed & 0x7FFFFFFFFFFFFFFF)
            return torch.randn(1, like.shape[1], 1, side, side, generator=generator)

        own = torch.cat([draw((self.seed << 20) + first + stride * i + 1) for i in range(like.shape[2])], dim=2)
        mixed = SHARED_NOISE**0.5 * draw(self.seed << 20) + (1 - SHARED_NOISE) ** 0.5 * own
        return part.latents(mixed, geometry.spatial_stride).to(like.device)

    def velocity(self, window: Window, source: Tensor, pose: Tensor | None, part: Part) -> flow.Velocity:
        """Return the guided velocity for this window's speech, lips shut where nobody speaks."""
        backbone, speech = self.method.backbone, self.method.listen(window.sound)
        moments = torch.from_numpy(window.seconds).float()
        lips = None if backbone.lips is None else self.lips(speech, moments)
        condition = backbone.condition(Given(window, source, pose, lips, self.painted(window), part), speech)
        links = [(guide.tells, self.weight(guide, window, part)) for guide in backbone.guides]
        told = [frozenset(each for tells, weight in links if weight is None for each in tells)]
        weights = [weight for _, weight in links if weight is not None]
        for tells, weight in links:
            if weight is not None:
                told.append(told[-1] | tells)

        def velocity(z: Tensor, sigma: float) -> Tensor:
            made = backbone.velocities(z, sigma, condition, told)
            speed = made[0]
            for weight, less, more in zip(weights, made, made[1:], strict=False):
                speed = speed + weight(sigma) * (more - less)
            return speed

        return velocity

    def weight(self, guide: Guide, window: Window, part: Part) -> Weight | None:
        """Return how much of what a link of guidance changes is taken; None: just what it is, so it is always told."""
        options, manner = self.method.options, self.manner
        if "audio" in guide.tells and manner.guidance_mode == "dynamic":
            bell = self.bell(window, part)
            return lambda sigma: bell * flow.temporal_guidance(sigma, options.omega_peak, options.omega_gamma)
        given = manner.guidance if "audio" in guide.tells else options.text_guidance
        scale, curve = guide.scale if given is None else given, guide.curve
        if curve is not None:
            return lambda sigma: scale * curve(sigma)
        return None if scale == 1 else lambda _: scale

    def bell(self, window: Window, part: Part) -> Tensor:
        """Return dynamic guidance's G (1, 1, F, h, w) around the mouths of the window's latent frames."""
        options, geometry, device = self.method.options, self.method.backbone.geometry, self.method.backbone.device
        places = (window.landmarks + 0.5) / geometry.canvas
        right, left = (places[:, side] for side in FACE_SIDES)
        spread = options.omega_spread * np.linalg.norm(left - right, axis=1)
        mouth, width = (torch.from_numpy(value).float().to(device) for value in (places[:, LIPS].mean(1), spread))
        mouth, width = (flow.per_latent_frame(value, geometry.temporal_stride) for value in (mouth, width))
        side = geometry.canvas // geometry.spatial_stride
        bell = flow.spatial_guidance(mouth, width, (side, side), options.omega_base, options.omega_peak)
        return part.latents(bell, geometry.spatial_stride)

    def lips(self, speech: SpeechFeatures, moments: Tensor) -> Tensor:
        """Return the lip parameters (F, 6) to paint.

        What the encoder regresses is too tame: it is spread about its own mean by the backbone's gain times
        `strength`; then it is faded to closed lips where nobody speaks. Openings are those that the lent mouths bear.
        """
        known = self.method.backbone.lips
        assert known is not None
        gain = known.gain * self.method.options.strength
        voiced = speech.voice_at(moments)[:, None]
        centre = speech.mean_lips
        lips = centre + gain * (speech.lips_at(moments) - centre)
        closed = known.closed.to(lips)
        lips[:, :2] = torch.maximum(lips[:, :2], closed[:2])
        if self.lender is not None:
            spread, mean = known.spread[:2].to(lips), known.mean[:2].to(lips)
            borne = self.lender.borne((lips[:, :2] * spread + mean).cpu().numpy())
            lips[:, :2] = (torch.from_numpy(borne).to(lips) - mean) / spread
        return voiced * lips + (1 - voiced) * closed
