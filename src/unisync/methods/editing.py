"""What methods that edit a film's latents share: the lips painted over, the start, the steps, guidance, what is held.

UniSync and OmniSync are this with other defaults (`Manner`), so that each may use what the other brings.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unisync import flow
from unisync.audio.encoder import SpeechFeatures, encode_speech
from unisync.backbones.base import Backbone
from unisync.mask import LIPS, mouth_mask
from unisync.methods.abreast import abreast
from unisync.methods.base import Keep, Performer, Spec, anew
from unisync.methods.detail import LipsDetail
from unisync.methods.lending import Lender, Lent
from unisync.methods.pose import draw_pose
from unisync.mouth import closed, neutralised
from unisync.nets.transformer import Condition
from unisync.options import Composite, DubOptions, Guidance, SourceLips
from unisync.registry import load
from unisync.types import Floats, Mouths, Pixels, Sound, Track, Window

OVERLAP = 2
CLOSED, OPENED, FITTING = 0.9, 0.65, 0.5
"""Where painting starts by itself: from closed lips everything has to be painted, from lips that were opened by a warp
what lies between them, from fitting mouths hardly anything."""
SHARED_NOISE = 0.3
"""Share of the noise's variance that is the same in all frames: what the model invents then stays put between frames."""
FACE_SIDES = (234, 454)


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How a method goes about it where the options leave it open; what each is, `DubOptions` says.

    start: None is by how much there is to paint.  guidance: the scale of the static one.
    """

    source_lips: SourceLips
    start: float | None
    tau_inj: float
    guidance_mode: Guidance
    composite: Composite
    carry: bool
    guidance: float = 1.0

    def said(self, options: DubOptions) -> Manner:
        """Return this with what the options do say. A scale of static guidance asks for static guidance."""
        given = {item.name: getattr(options, item.name) for item in fields(self)}
        if options.guidance is not None:
            given["guidance_mode"] = "static"
        return replace(self, **{name: value for name, value in given.items() if value is not None})


class Editor:
    """The method on any backbone; on the embedded one unless another is given."""

    def __init__(self, options: DubOptions, manner: Manner, backbone: Backbone | None = None) -> None:
        self.options, self.manner = options, manner.said(options)
        self.backbone: Backbone = backbone or load("backbone", "mini").from_options(options)
        geometry = self.backbone.geometry
        self.steps = self.backbone.steps if options.steps is None else options.steps
        lends, facts = self.manner.source_lips == "nearest", {"steps": self.steps}
        self.spec = Spec(geometry.canvas, geometry.length, OVERLAP, lends, self.manner.composite, facts)
        self._heard: dict[int, tuple[Sound, SpeechFeatures]] = {}

    def begin(self, track: Track, keep: Keep = anew) -> Performer:
        return EditPerformer(self, track.name, keep)

    def listen(self, sound: Sound) -> SpeechFeatures:
        """Return the speech's features; encoded once, however many tracks speak it."""
        if id(sound) not in self._heard:
            self._heard[id(sound)] = sound, encode_speech(self.backbone.audio, sound)
        return self._heard[id(sound)][1]


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
        alone = 1.0 if self.manner.source_lips == "masked" else CLOSED
        self.start = alone if self.manner.start is None else self.manner.start
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
            lips = self.lips_at(window.sound, window.seconds)
            lent = self.lender_of(window, window.mouths).lent(window, lips)
            return Scene(window, lent.window, lent)
        if self.manner.source_lips in ("nearest", "neutral") and window.reference is not None:
            pixels = neutralised(window.pixels, window.landmarks, closed(window.reference))
            return Scene(window, replace(window, pixels=pixels))
        return Scene(window, window)

    @property
    def steps(self) -> int:
        """How many steps painting takes: the less there is to paint, the fewer, unless it was said how many."""
        whole = self.method.steps
        return whole if self.method.options.steps is not None else max(1, round(whole * min(1.0, self.start / CLOSED)))

    def lender_of(self, window: Window, mouths: Mouths) -> Lender:
        """Return who lends this track its mouths; the first time, find where painting starts."""
        if self.lender is None:
            audio = self.method.backbone.audio
            self.lender = Lender(mouths, audio.lip_std.cpu().numpy())
            if self.manner.start is None:
                whole = self.lips_at(window.sound, np.arange(0, window.sound.seconds, 0.04))
                self.start = OPENED - (OPENED - FITTING) * self.lender.reach(whole[:, 0])
        return self.lender

    def lips_at(self, sound: Sound, seconds: NDArray[np.float64]) -> Floats:
        """Return the lips (T, 6) to paint at moments (T,) of a speech, in canvas sides."""
        audio = self.method.backbone.audio
        lips = self.lips(self.method.listen(sound), torch.from_numpy(seconds).float())
        return np.asarray(lips * audio.lip_std.cpu() + audio.lip_mean.cpu(), np.float32)

    def paint(self, window: Window) -> Pixels:
        """Return the window's canvases repainted, whatever lips they carry."""
        options, backbone = self.method.options, self.method.backbone
        if not self.steps:
            return window.pixels
        size = self.method.spec.canvas
        mask = torch.from_numpy(np.stack([mouth_mask(points, size) for points in window.landmarks]))[None]
        geometry = backbone.geometry
        mask = flow.latent_mask(mask, geometry.temporal_stride, geometry.spatial_stride).to(backbone.device)
        source = backbone.encode(window.pixels)
        if self.manner.source_lips == "masked":
            source = source * (1 - mask)
        noise = self.noise(window.start, source)
        generator = torch.Generator().manual_seed(self.seed + window.start)
        pose = backbone.encode(draw_pose(window.landmarks, size)) if options.pose else None
        levels = flow.schedule(self.steps, options.shift, self.start, options.steps_counted)
        start = flow.progressive_start(source, noise, self.start)
        injections = [flow.Injection(source, mask, self.manner.tau_inj, options.tali_mode)]
        known = self.known(window, source)
        if known is not None:
            start = flow.inject(start, known.source, noise, known.mask, self.start)
            injections.append(known)
        velocity = self.velocity(window, source, pose)
        return backbone.decode(flow.sample(velocity, start, levels, injections, generator, options.solver))

    def known(self, window: Window, like: Tensor) -> flow.Injection | None:
        """Return what holds the window's first frames to what the one before painted of them, if anything did.

        Encoded anew, since the latents of an autoencoder over time depend on where its window begins.
        """
        if self._last is None:
            return None
        begun, painted = self._last
        shared = painted[window.start - begun :]
        if not 0 < len(shared) < len(window) or not window.start > begun:
            return None
        num = 1 + (len(shared) - 1) // self.method.backbone.geometry.temporal_stride
        source, mask = torch.zeros_like(like), torch.ones_like(like[:, :1])
        source[:, :, :num] = self.method.backbone.encode(shared)[:, :, :num]
        mask[:, :, :num] = 0
        return flow.Injection(source, mask, 1.0)

    def noise(self, first: int, like: Tensor) -> Tensor:
        """Return unit noise shaped like (1, C, F, h, w), each frame's own draw mixed with the track's common one."""

        def draw(seed: int) -> Tensor:
            generator = torch.Generator().manual_seed(seed & 0x7FFFFFFFFFFFFFFF)
            return torch.randn(1, like.shape[1], 1, *like.shape[3:], generator=generator)

        own = torch.cat([draw((self.seed << 20) + first + i + 1) for i in range(like.shape[2])], dim=2)
        mixed = SHARED_NOISE**0.5 * draw(self.seed << 20) + (1 - SHARED_NOISE) ** 0.5 * own
        return mixed.to(like.device)

    def velocity(self, window: Window, source: Tensor, pose: Tensor | None) -> flow.Velocity:
        """Return the guided velocity for this window's speech, lips shut where nobody speaks."""
        options, manner, backbone = self.method.options, self.manner, self.method.backbone
        speech = self.method.listen(window.sound)
        moments = torch.from_numpy(window.seconds).float()
        lips = self.lips(speech, moments).to(source.device)
        audio = speech.tokens(moments, backbone.geometry.audio_tokens).to(source.device)
        seconds = (moments - moments[0])[None].to(source.device)
        told = torch.ones(1, device=source.device)
        condition = Condition(source, seconds, pose, audio[None], lips[None], None, told, told)
        if manner.guidance_mode == "static" and manner.guidance == 1:
            return lambda z, sigma: backbone.velocity(z, sigma, condition)
        both = Condition(
            source=source.expand(2, -1, -1, -1, -1),
            seconds=seconds.expand(2, -1),
            pose=None if pose is None else pose.expand(2, -1, -1, -1, -1),
            audio=audio[None].expand(2, -1, -1, -1),
            lips=lips[None].expand(2, -1, -1),
            keep_audio=torch.tensor([0.0, 1.0], device=source.device),
            keep_lips=torch.tensor([0.0, 1.0], device=source.device),
        )
        bell = self.bell(window, source) if manner.guidance_mode == "dynamic" else None

        def velocity(z: Tensor, sigma: float) -> Tensor:
            untold, heard = backbone.velocity(z.expand(2, -1, -1, -1, -1), sigma, both).chunk(2)
            if bell is None:
                return flow.guided(untold, heard, manner.guidance)
            return flow.dynamic_guided(untold, heard, bell, sigma, options.omega_peak, options.omega_gamma)

        return velocity

    def bell(self, window: Window, like: Tensor) -> Tensor:
        """Return dynamic guidance's G (1, 1, F, h, w) around the mouths of the window's latent frames."""
        options, stride = self.method.options, self.method.backbone.geometry.temporal_stride
        places = (window.landmarks + 0.5) / self.method.spec.canvas
        right, left = (places[:, side] for side in FACE_SIDES)
        spread = options.omega_spread * np.linalg.norm(left - right, axis=1)
        mouth, width = (torch.from_numpy(value).float().to(like.device) for value in (places[:, LIPS].mean(1), spread))
        mouth, width = flow.per_latent_frame(mouth, stride), flow.per_latent_frame(width, stride)
        grid = (like.shape[-2], like.shape[-1])
        return flow.spatial_guidance(mouth, width, grid, options.omega_base, options.omega_peak)

    def lips(self, speech: SpeechFeatures, moments: Tensor) -> Tensor:
        """Return the lip parameters (F, 6) to paint.

        What the encoder regresses is too tame: it is spread about its own mean by the backbone's gain times
        `strength`; then it is faded to closed lips where nobody speaks.
        """
        gain = self.method.backbone.lip_gain * self.method.options.strength
        voiced = speech.voice_at(moments)[:, None]
        centre = speech.mean_lips
        lips = centre + gain * (speech.lips_at(moments) - centre)
        closed = self.method.backbone.closed_lips().to(lips)
        lips[:, :2] = torch.maximum(lips[:, :2], closed[:2])
        return voiced * lips + (1 - voiced) * closed
