"""The UniSync method on a tiny untrained backbone: what must hold whatever the weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from opening import SIZE, face
from tiny import tiny_weights
from unisync.audio.encoder import SpeechFeatures
from unisync.backbones.base import Part
from unisync.backbones.mini import Mini
from unisync.errors import OptionError, WeightsError
from unisync.methods.editing import CLOSED, LENT, MADE_UP, SHARED_NOISE, EditPerformer
from unisync.methods.lending import BEYOND, SPOKEN
from unisync.methods.pose import draw_pose
from unisync.methods.unisync import Unisync
from unisync.mouth import choose_reference, closed, lip_parameters, neutralised
from unisync.options import DubOptions
from unisync.types import Mouths, Pixels, Reference, Sound, Track, Window


def window(num: int = 6, start: int = 0, seed: int = 0) -> Window:
    rng = np.random.default_rng(seed)
    small = rng.integers(60, 200, (num, 8, 8, 3)).astype(np.uint8)
    pixels = np.stack([cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) for image in small])
    landmarks = np.stack([face(0.05 * (i % 3)) for i in range(num)])
    samples = rng.normal(0, 0.1, 16000).astype(np.float32)
    reference = Reference(pixels[0], landmarks[0])
    seconds = (start + np.arange(num)) / 25
    return Window(start, pixels, seconds, landmarks, Sound(samples, 16000), reference)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Mini:
    return Mini(tiny_weights(tmp_path_factory.mktemp("weights")))


def track() -> Track:
    marks = np.stack([face()] * 6)
    return Track("face1", 0, 6, marks, np.zeros((6, 4), np.float32), np.ones(6, np.float32), np.ones(6, np.float32))


def render(backbone: Mini, given: Window, **options: object) -> Pixels:
    method = Unisync(DubOptions.from_dict({"steps": 3, **options}), backbone)
    [(_, made)] = method.begin(track()).render([given])
    return made


def test_gives_canvases_like_the_windows(backbone: Mini) -> None:
    out = render(backbone, window())
    assert out.shape == (6, SIZE, SIZE, 3) and out.dtype == np.uint8


def test_same_seed_same_bytes_other_seed_others(backbone: Mini) -> None:
    one, two, three = (render(backbone, window(), seed=s) for s in (1, 1, 2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, three)


def test_source_is_the_closed_mouth_or_the_film_as_asked(backbone: Mini) -> None:
    given = window()
    other = Window(
        0,
        given.pixels,
        given.seconds,
        given.landmarks,
        given.sound,
        Reference(255 - given.pixels[0], given.landmarks[0]),
    )
    assert not np.array_equal(render(backbone, given), render(backbone, other))
    same = [render(backbone, w, source_lips="as_is") for w in (given, other)]
    assert np.array_equal(*same)


def test_old_lips_cannot_be_seen_when_neutralised(backbone: Mini) -> None:
    # Paint anything on the mouth of every frame but the reference: the result must not change at all inside it.
    given = window()
    scribbled = given.pixels.copy()
    scribbled[1:, 32:40, 26:38] = np.random.default_rng(5).integers(0, 256, (5, 8, 12, 3))
    for options in ({"source_lips": "neutral"}, {"source_lips": "nearest"}):
        lent = Mouths(given.pixels[:3], given.landmarks[:3], lip_parameters(given.landmarks, SIZE)[:3])
        one = Window(0, given.pixels, given.seconds, given.landmarks, given.sound, given.reference, lent)
        other = Window(0, scribbled, given.seconds, given.landmarks, given.sound, given.reference, lent)
        assert np.array_equal(render(backbone, one, **options), render(backbone, other, **options))


@pytest.mark.parametrize(
    ("asked", "options", "start", "steps"),
    [
        (0.01, {}, LENT, 1),
        (0.11, {}, LENT, 2),
        (0.16, {}, MADE_UP, 3),
        (50.0, {}, MADE_UP, 6),
        (0.01, {"start": 0.7}, 0.7, 6),
    ],
)
def test_painting_takes_as_many_steps_as_mouths_fall_short(
    backbone: Mini,
    monkeypatch: pytest.MonkeyPatch,
    asked: float,
    options: dict[str, float],
    start: float,
    steps: int,
) -> None:
    """The shot's widest mouth opens by .05 and can be stretched to .08 of the canvas."""
    given = window()
    lent = Mouths(given.pixels, given.landmarks, np.full((6, 6), 0.05, np.float32))
    audio = backbone.audio
    lips = (torch.full((1, 6), asked) - audio.lip_mean) / audio.lip_std
    monkeypatch.setattr(EditPerformer, "lips", lambda self, speech, moments: lips.repeat(len(moments), 1))
    monkeypatch.setattr(backbone, "habits", replace(backbone.habits, steps=8))
    performer = Unisync(DubOptions.from_dict(options), backbone).begin(track())
    assert performer.start == options.get("start", CLOSED)
    list(performer.render([replace(given, mouths=lent)]))
    assert (performer.start, performer.steps) == (start, steps)


def test_no_mouth_gapes_from_the_first_window_on(backbone: Mini, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far wider openings are asked for than the shot's mouths show; no window, nor the network, is given them."""
    monkeypatch.setattr(SpeechFeatures, "lips_at", lambda self, seconds: torch.full((len(seconds), 6), 100.0))
    monkeypatch.setattr(SpeechFeatures, "voice_at", lambda self, seconds: torch.ones(len(seconds)))
    given = window()
    lent = Mouths(given.pixels, given.landmarks, lip_parameters(given.landmarks, SIZE))
    performer = EditPerformer(Unisync(DubOptions(strength=10), backbone), "face1")
    scene = performer.scene(replace(given, mouths=lent))
    limit = max(SPOKEN, float(lent.lips[:, 0].max())) + BEYOND
    assert scene.lent is not None and scene.lent.openings == pytest.approx(limit, rel=1e-3)
    assert performer.lips_at(given.sound, given.seconds)[:, :2] == pytest.approx(limit, rel=1e-3)


def test_steps_are_as_said_or_as_the_weights_are_meant_for(backbone: Mini, monkeypatch: pytest.MonkeyPatch) -> None:
    for said, steps in ((None, 2), (5, 5)):
        calls: list[float] = []
        monkeypatch.setattr(backbone, "velocity", lambda z, sigma, _, calls=calls: calls.append(sigma) or z)
        method = Unisync(DubOptions(steps=said), backbone)
        list(method.begin(track()).render([window()]))
        assert len(calls) == steps == method.spec.facts["steps"]


@pytest.mark.parametrize(("start", "said", "steps"), [(0.9, None, 4), (0.65, None, 3), (0.5, None, 2), (0.5, 6, 6)])
def test_painting_takes_fewer_steps_where_there_is_less_to_paint(
    backbone: Mini, monkeypatch: pytest.MonkeyPatch, start: float, said: int | None, steps: int
) -> None:
    monkeypatch.setattr(backbone, "habits", replace(backbone.habits, steps=4))
    performer = EditPerformer(Unisync(DubOptions(steps=said), backbone), "face1")
    performer.start = start
    assert performer.steps == steps


def test_a_reference_that_is_not_closed_is_shut() -> None:
    marks = face(0.15)
    for upper, lower in zip((191, 80, 81, 311, 310, 415), (95, 88, 178, 402, 318, 324), strict=True):
        x = {191: 0.41, 80: 0.43, 81: 0.44, 311: 0.56, 310: 0.57, 415: 0.59}[upper] * SIZE
        marks[upper], marks[lower] = (x, 0.485 * SIZE), (x, 0.635 * SIZE)
    pixels = np.full((SIZE, SIZE, 3), 150, np.uint8)
    top, bottom = round(marks[13, 1]), round(marks[14, 1])
    pixels[top + 1 : bottom, 27:37] = 255  # teeth
    rested = Reference(pixels, face(0.0))
    assert closed(rested) is rested
    made = closed(Reference(pixels, marks)).pixels
    assert (made[:, 29:35] < 255).mean() > 0.99 and (pixels[:, 29:35] == 255).any(axis=2).sum() > 40
    assert np.array_equal(made[:20], pixels[:20])


def test_full_injection_leaves_all_but_the_mouth_to_the_source(backbone: Mini, monkeypatch: pytest.MonkeyPatch) -> None:
    given, ends = window(), []
    monkeypatch.setattr(backbone, "decode", lambda z: ends.append(z) or given.pixels)
    source = backbone.encode(given.pixels)
    for ratio in (1.0, 0.0):
        render(backbone, given, tau_inj=ratio, start=1.0, source_lips="as_is")
    held, free = ((end - source).abs()[0, :, :, 0] for end in ends)  # the top row is far from the mouth
    assert held.max() == 0 and free.max() > 0.1
    assert (ends[0] - source).abs().max() > 0.1


def test_windows_share_their_noise_where_they_overlap(backbone: Mini) -> None:
    performer = Unisync(DubOptions(), backbone).begin(track())
    like = torch.zeros(1, 4, 6, 8, 8)
    whole = Part(0, SIZE, 0, SIZE)
    one, two = (performer.noise(first, like, whole) for first in (0, 4))  # type: ignore[attr-defined]
    assert torch.equal(one[:, :, 4:], two[:, :, :2])
    many = performer.noise(0, torch.zeros(1, 4, 200, 8, 8), whole)  # type: ignore[attr-defined]
    assert abs(float(many.std()) - 1) < 0.1
    alike = torch.corrcoef(many[0].transpose(0, 1).flatten(1))[~torch.eye(200, dtype=torch.bool)].mean()
    assert abs(float(alike) - SHARED_NOISE) < 0.08


def test_of_the_pose_ten_frames_a_second_are_encoded_and_the_rest_lies_between(backbone: Mini) -> None:
    given = window()
    assert given.seconds == pytest.approx(np.arange(6) / 25)
    moved = replace(given, landmarks=np.stack([face(shift=0.02 * i) for i in range(6)]))
    performer = Unisync(DubOptions(), backbone).begin(track())
    assert isinstance(performer, EditPerformer)
    each = backbone.encode(draw_pose(moved.landmarks, SIZE))[0].transpose(0, 1)
    assert (each[1:] - each[:-1]).abs().amax(dim=(1, 2, 3)).min() > 0.1, "the head moves"

    def pose(moments: NDArray[np.float64]) -> torch.Tensor:
        part = Part(0, SIZE, 0, SIZE)
        return performer.pose(replace(moved, seconds=moments), part)[0].transpose(0, 1)

    between = torch.stack(
        [each[0], (each[0] + each[2]) / 2, each[2], *(torch.lerp(each[2], each[5], i / 3) for i in (1, 2, 3))]
    )
    assert torch.allclose(pose(given.seconds), between, atol=1e-5)
    assert torch.allclose(pose(np.arange(6) / 8), each, atol=1e-5), "a film of few frames has every one's"


def test_windows_on_lent_mouths_share_one_frame_unless_they_carry_over_what_was_painted(backbone: Mini) -> None:
    options = (DubOptions(), DubOptions(carry=True), DubOptions(source_lips="neutral"))
    assert [Unisync(given, backbone).spec.overlap for given in options] == [1, 2, 2]


def test_silence_asks_for_closed_lips(backbone: Mini) -> None:
    method = Unisync(DubOptions(strength=5.0), backbone)
    performer = method.begin(track())
    speech = method.listen(Sound(np.zeros(16000, np.float32), 16000))
    lips = performer.lips(speech, torch.tensor([0.1, 0.5]))  # type: ignore[attr-defined]
    assert torch.equal(lips, backbone.lips.closed.expand(2, -1))


def test_guidance_one_is_the_plain_model(backbone: Mini) -> None:
    one = render(backbone, window(), guidance=1.0)
    near = render(backbone, window(), guidance=1.000001)
    assert np.abs(one.astype(int) - near).max() <= 2
    assert not np.array_equal(one, render(backbone, window(), guidance=4.0))


def test_pose_is_drawn_without_mouth_and_jaw() -> None:
    closed, opened = face(0.0), face(0.2)
    assert not np.array_equal(closed, opened)
    one, two = draw_pose(np.stack([closed, opened]), SIZE)
    assert one.any() and np.array_equal(one, two)
    assert not np.array_equal(one, draw_pose(face(0.0, shift=0.05)[None], SIZE)[0])


def test_lip_parameters_are_in_canvas_sides() -> None:
    table = lip_parameters(np.stack([face(0.0), face(0.1), face(0.2)]), SIZE)
    assert np.allclose(table[:, 0], [0, 0.1, 0.2], atol=1e-4) and np.allclose(table[:, 1], [0, 0.1, 0.2], atol=1e-4)
    assert np.allclose(np.median(table[:, 2:], axis=0), 0)


def test_reference_is_the_most_closed_frame_in_the_usual_pose() -> None:
    frames = [face(0.2), face(0.1), face(0.01), face(0.15), face(0.12), face(0.0, shift=0.3)]
    assert choose_reference(np.stack(frames), SIZE) == 2
    score = np.array([1, 1, 0.1, 1, 1, 1], np.float32)
    assert choose_reference(np.stack(frames), SIZE, score) != 2


def test_neutralised_is_the_reference_inside_and_the_film_outside() -> None:
    given = window()
    reference = Reference(np.full((SIZE, SIZE, 3), 120, np.uint8), face())
    flat = np.full_like(given.pixels, 90)
    out = neutralised(flat, given.landmarks, reference)
    assert (np.abs(out.astype(int) - 90) <= 1).all()  # colour matched: no trace of the donor's brightness
    out = neutralised(given.pixels, given.landmarks, reference)
    assert np.array_equal(out[:, :10], given.pixels[:, :10])
    assert (np.ptp(out[3, 34:38, 30:34].astype(int), axis=(0, 1)) <= 1).all()


def test_wrong_weights_and_devices_are_refused(tmp_path: Path) -> None:
    from unisync.nets.weights import save_weights

    path = tmp_path / "other.safetensors"
    save_weights(path, {}, {"kind": "wan"})
    with pytest.raises(WeightsError, match="of kind 'wan'"):
        Mini(path)
    if not torch.cuda.is_available():
        with pytest.raises(OptionError, match="cuda"):
            Mini.from_options(DubOptions(device="cuda"))


def test_encode_and_decode_keep_order_and_range(backbone: Mini) -> None:
    given = window()
    z = backbone.encode(given.pixels)
    assert z.shape == (1, 4, 6, 8, 8)
    alone = torch.cat([backbone.encode(given.pixels[i : i + 1]) for i in range(6)], dim=2)
    assert torch.allclose(z, alone, atol=0.05)
    assert backbone.decode(z).shape == given.pixels.shape
