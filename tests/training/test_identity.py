"""Faces that look alike are one speaker, and none is in both parts; the same seconds twice are found."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from faces import portrait
from unisync.training.alike import doubles, fingerprint, likeness
from unisync.training.canvases import Canvases
from unisync.training.identity import NEAR_FACE, SAME_FACE, grouped, held_out, look


def test_a_face_is_known_again_in_other_light_and_not_another_face(face: Canvases) -> None:
    brighter = replace(face, pixels=np.clip(face.pixels * 1.15 + 5, 0, 255).astype(np.uint8))
    cloth = np.stack([cv2.resize(portrait()[300:460, 100:260], (128, 128))] * len(face.pixels))
    own = look(face)
    assert np.linalg.norm(own - look(brighter)) < SAME_FACE
    assert np.linalg.norm(own - look(replace(face, pixels=cloth))) > NEAR_FACE


def test_looks_and_ties_make_groups() -> None:
    looks = np.zeros((6, 65), np.float32)
    looks[:, 0] = (0, 0.5, 1.0, 5, 9, 9.1)
    assert [g.tolist() for g in _parts(grouped(looks, 0.6))] == [[0, 1, 2], [3], [4, 5]]
    tied = grouped(looks, 0.6, (["", "", "", "a", "a", ""], ["", "", "", "", "", ""]))
    assert [g.tolist() for g in _parts(tied)] == [[0, 1, 2], [3, 4, 5]]
    assert len(_parts(grouped(looks, 0.0, (["x"] * 6,)))) == 1


def test_whole_groups_are_held_out() -> None:
    groups = np.repeat(np.arange(50), 4).astype(np.int32)
    names = [f"k{i}" for i in range(200)]
    seconds = np.ones(200, np.float32)
    held = held_out(groups, seconds, names, 0.1, seed=0)
    assert 0.1 <= held.mean() <= 0.15
    assert not set(groups[held]) & set(groups[~held])
    assert not np.array_equal(held, held_out(groups, seconds, names, 0.1, seed=1))
    order = np.random.default_rng(0).permutation(200)
    again = held_out(groups[order], seconds, [names[i] for i in order], 0.1, seed=0)
    assert np.array_equal(again, held[order])
    assert not held_out(np.zeros(9, np.int32), np.ones(9, np.float32), names[:9], 0.1, 0).any()


def talk(seed: int, start: float, seconds: float, gain: float = 1.0) -> Canvases:
    """A stretch of one long talk: a spot that wanders over the canvas, and noise whose bands come and go."""
    rng = np.random.default_rng(seed)
    path = cv2.GaussianBlur(rng.normal(32, 40, (400, 2)).astype(np.float32), (1, 0), 0.1, None, 4)
    loud = np.repeat(rng.uniform(0.02, 1, 16 * 20), 800)
    sound = (rng.normal(0, 3000, 256_000) * loud).astype(np.int16)
    first, num = round(start * 25), round(seconds * 25)
    y, x = np.mgrid[0:64, 0:64]
    pixels = np.stack(
        [80 + 100 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / 300) for px, py in path[first : first + num]]
    )
    shades = np.clip(gain * pixels[..., None].repeat(3, 3), 0, 255).astype(np.uint8)
    samples = (gain * sound[first * 640 : (first + num) * 640]).astype(np.int16)
    return Canvases(shades, np.zeros((num, 468, 2), np.float32), np.arange(num) / 25, samples, "")


def test_the_same_seconds_are_alike_however_they_were_cut_and_others_are_not() -> None:
    whole = fingerprint(talk(0, 0, 6))
    again = fingerprint(talk(0, 1.2, 4.8, gain=0.9))
    assert likeness(whole, again) > 0.9
    assert likeness(whole, fingerprint(talk(1, 0, 6))) < 0.5
    other_sound = replace(talk(0, 0, 6), samples=talk(2, 0, 6).samples)
    assert likeness(whole, fingerprint(other_sound)) < 0.5
    mute = fingerprint(replace(talk(0, 0, 6), samples=np.zeros(0, np.int16)))
    assert likeness(whole, mute) == -1
    assert likeness(mute, mute) == pytest.approx(1)


def test_the_first_of_doubles_is_kept() -> None:
    prints = [fingerprint(talk(*which)) for which in ((0, 0, 6), (1, 0, 6), (0, 1.2, 4.8), (0, 0.4, 5))]
    assert doubles(prints, np.zeros((4, 65), np.float32), 0.9) == [None, None, 0, 0]
    apart = np.eye(4, 65, dtype=np.float32)
    assert doubles(prints, apart, 0.9) == [None] * 4  # other faces


def _parts(groups: np.ndarray) -> list[np.ndarray]:
    return [np.flatnonzero(groups == g) for g in dict.fromkeys(groups.tolist())]
