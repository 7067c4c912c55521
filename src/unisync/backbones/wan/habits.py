"""How each public model is used: sizes, sampler and guidance, as its authors' inference has them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from unisync.backbones.base import Guide, Habits

ZERO_SHOT = 0.93
"""Noise level at which painting starts: OmniSync's for models that were never taught to edit."""


@dataclass(frozen=True)
class Usage:
    """canvas: side in px.  length, overlap: frames, 4n + 1.  rate: film frames a second that it was taught."""

    habits: Habits
    guides: tuple[Guide, ...]
    canvas: int = 480
    length: int = 81
    overlap: int = 5
    rate: float = 16.0


def _steps(steps: int, shift: float) -> Habits:
    return Habits(steps, shift, "unipc", ZERO_SHOT, pose=None, carry=True)


def _text(scale: float) -> Guide:
    return Guide(frozenset({"text"}), scale)


def _audio(scale: float) -> Guide:
    return Guide(frozenset({"audio"}), scale)


def _joint(scale: float) -> Guide:
    return Guide(frozenset({"text", "audio"}), scale)


def taught_habits(habits: Habits) -> Habits:
    """Return how a model is used that was taught to edit: along the pose, and from where a method that edits starts."""
    return replace(habits, pose=True, start=None if habits.start == ZERO_SHOT else habits.start)


def power(sigma: float) -> float:
    """Return how X-Dub's guidance by the speech falls with the noise."""
    return sigma**1.5


def staircase(sigma: float) -> float:
    """Return how X-Dub's guidance by the film falls with the noise: 1, .6 and .3, with soft steps at .8 and .4."""

    def passed(middle: float) -> float:
        share = min(max((sigma - (middle - 0.05)) / 0.1, 0.0), 1.0)
        return (1 - math.cos(math.pi * share)) / 2

    return 0.3 + 0.3 * passed(0.4) + 0.4 * passed(0.8)


EULER = replace(_steps(40, 7.0), solver="euler")
USAGE: dict[str, Usage] = {
    "wan2.1-t2v-1.3b": Usage(_steps(50, 5.0), (_text(5.0),)),
    "wan2.1-t2v-14b": Usage(_steps(50, 5.0), (_text(5.0),)),
    "wan2.1-i2v-14b": Usage(_steps(40, 3.0), (_text(5.0),)),
    "wan2.2-i2v-a14b": Usage(_steps(40, 5.0), (_text(3.5),)),
    "wan2.2-ti2v-5b": Usage(_steps(50, 5.0), (_text(5.0),), canvas=640, length=121, rate=24.0),
    # S2V was taught poses drawn as skeletons, not as ours are.
    "wan2.2-s2v-14b": Usage(replace(_steps(40, 3.0), pose=False), (_joint(4.5),), length=77),
    "talkverse-5b": Usage(_steps(50, 5.0), (_joint(4.5),), canvas=640, length=121, rate=25.0),
    "fantasytalking": Usage(replace(_steps(30, 5.0), solver="euler"), (_text(5.0), _audio(5.0)), canvas=512, rate=23.0),
    "multitalk": Usage(EULER, (_audio(4.0), _text(5.0)), canvas=640, overlap=9, rate=25.0),
    # X-Dub was taught to paint from noise, the film beside it.
    "x-dub-5b": Usage(
        Habits(30, 5.0, "euler", start=1.0, pose=None, carry=True),
        (Guide(frozenset({"reference"}), 2.5, staircase), Guide(frozenset({"audio"}), 10.0, power)),
        canvas=512,
        length=77,
        rate=25.0,
    ),
}
"""By family. A link of guidance tells what those before it did, and more: of MultiTalk's the speech comes first."""
