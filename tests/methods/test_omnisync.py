"""OmniSync and what it lends to UniSync, on a tiny untrained backbone: what must hold whatever the weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_unisync import render as render_unisync
from test_unisync import track, window

from opening import SIZE
from tiny import tiny_weights
from unisync.backbones.base import Part
from unisync.backbones.mini import Mini
from unisync.errors import OptionError
from unisync.methods import omnisync, unisync
from unisync.methods.editing import Manner
from unisync.methods.omnisync import Omnisync
from unisync.options import DubOptions
from unisync.registry import load
from unisync.types import Pixels, Window


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Mini:
    return Mini(tiny_weights(tmp_path_factory.mktemp("weights")))


def method(backbone: Mini, **options: object) -> Omnisync:
    return Omnisync(DubOptions.from_dict({"steps": 3, **options}), backbone)


def render(backbone: Mini, given: list[Window], **options: object) -> list[Pixels]:
    return [made for _, made in method(backbone, **options).begin(track()).render(given)]


def test_it_stands_behind_the_door() -> None:
    assert load("method", "omnisync") is Omnisync


def test_the_methods_differ_in_their_manner_alone(backbone: Mini) -> None:
    told = {"source_lips": "as_is", "start": 0.92, "tau_inj": 0.0, "guidance_mode": "dynamic", "carry": True}
    (made,) = render(backbone, [window()])
    assert np.array_equal(made, render_unisync(backbone, window(), **told))
    assert not np.array_equal(made, render_unisync(backbone, window()))
    assert method(backbone).spec.composite == "none" and method(backbone, composite="hard").spec.composite == "hard"


def test_options_are_heard_before_the_manner() -> None:
    said = omnisync.MANNER.said(DubOptions(tau_inj=0.5, composite="gaussian", carry=False))
    assert said == replace(omnisync.MANNER, tau_inj=0.5, composite="gaussian", carry=False)
    assert omnisync.MANNER.said(DubOptions()) == omnisync.MANNER
    assert omnisync.MANNER.said(DubOptions(guidance=3.0)).guidance_mode == "static"
    assert unisync.MANNER.said(DubOptions(guidance_mode="dynamic")).guidance_mode == "dynamic"
    assert isinstance(unisync.MANNER, Manner)
    with pytest.raises(OptionError, match="static guidance"):
        DubOptions(guidance=2.0, guidance_mode="dynamic")


def test_dynamic_guidance_that_is_the_same_everywhere_is_static_guidance(backbone: Mini) -> None:
    flat = render(backbone, [window()], omega_base=3.0, omega_peak=3.0, omega_gamma=0.0)
    static = render(backbone, [window()], guidance=3.0)
    assert np.abs(flat[0].astype(int) - static[0]).max() <= 1
    assert not np.array_equal(static[0], render(backbone, [window()])[0])


def test_guidance_follows_the_mouth(backbone: Mini) -> None:
    performer = method(backbone).begin(track())
    given, whole = window(), Part(0, SIZE, 0, SIZE)
    moved = replace(given, landmarks=given.landmarks + np.float32([0.25 * SIZE, 0]))
    here, there = (performer.bell(each, whole) for each in (given, moved))  # type: ignore[attr-defined]
    assert torch.allclose(here[..., :-2], there[..., 2:], atol=1e-5)
    row, column = divmod(int(here[0, 0, 0].argmax()), 8)
    mouth = given.landmarks[0, [13, 14]].mean(0) / SIZE * 8
    assert abs(column + 0.5 - mouth[0]) <= 1 and abs(row + 0.5 - mouth[1]) <= 1


def test_the_whole_canvas_is_edited_but_without_steps_nothing_is(backbone: Mini) -> None:
    (made,) = render(backbone, [window()])
    changed = (made != window().pixels).any(axis=(0, 3))
    assert changed.mean() > 0.9
    assert np.array_equal(render(backbone, [window()], steps=0)[0], window().pixels)


def test_a_window_goes_on_from_the_one_before(backbone: Mini, monkeypatch: pytest.MonkeyPatch) -> None:
    first = window()
    second = replace(first, start=4, pixels=np.roll(first.pixels, 2, axis=0), seconds=first.seconds + 4 / 25)
    decode, ends = backbone.decode, list[torch.Tensor]()
    monkeypatch.setattr(backbone, "decode", lambda z: decode(ends.append(z) or z))
    one, _ = render(backbone, [first, second], detail=0)
    assert torch.allclose(ends[1][:, :, :2], backbone.encode(one[4:]), atol=1e-4)
    render(backbone, [second])  # nothing before it
    render(backbone, [first, second], carry=False)
    apart = ends[3:] if torch.equal(ends[0], ends[3]) else ends[:2:-1]  # painted side by side, done in any order
    assert torch.equal(ends[0], apart[0]) and torch.equal(ends[2], apart[1])
    assert not torch.allclose(ends[2][:, :, 2:], ends[1][:, :, 2:], atol=1e-3)


def test_without_pose_the_pose_is_not_seen(backbone: Mini) -> None:
    turned = replace(window(), landmarks=window().landmarks + np.float32([3, 0]))
    for pose, alike in ((True, False), (False, True)):
        options = {"pose": pose, "guidance": 1.0, "detail": 0}
        one, two = (render(backbone, [each], **options)[0] for each in (window(), turned))
        assert np.array_equal(one, two) is alike


def test_without_its_mouth_a_film_has_none_to_leak(backbone: Mini, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(backbone, "velocity", lambda z, _sigma, condition: seen.append(condition.source) or z)
    render(backbone, [window()], source_lips="masked", guidance=1.0)
    whole = backbone.encode(window().pixels)
    cut = (seen[0] == 0).all(dim=1)
    assert 0.1 < float(cut.float().mean()) < 0.9 and cut[:, :, 5, 4].all()
    assert torch.equal(seen[0], torch.where(cut[:, None], 0.0, whole))
    assert render_unisync(backbone, window(), source_lips="masked").shape == window().pixels.shape
