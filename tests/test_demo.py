"""The demo's film and speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unisync.demo import FACE, RATE, SIZE, demo_frames, demo_speech, hand, make_demo_film
from unisync.media import probe, read_sound


def test_the_speech_is_small_and_speaks() -> None:
    assert demo_speech().stat().st_size < 100_000
    sound = read_sound(demo_speech())
    assert 4 < sound.seconds < 6
    assert 0.03 < float(np.sqrt(np.mean(sound.samples**2))) < 0.5


def test_the_film_is_the_same_every_time_and_moves(tmp_path: Path) -> None:
    made = make_demo_film(tmp_path / "film.mp4", 0.4)
    film = probe(made)
    assert (film.width, film.height, len(film), film.rate, film.has_sound) == (SIZE, SIZE, 10, RATE, False)
    picture = np.random.default_rng(0).integers(0, 255, (512, 512, 3), np.uint8)
    once, again = ([frame.pixels for frame in demo_frames(picture, 3)] for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(once, again, strict=True))
    assert not np.array_equal(once[0], once[2])


def test_the_face_stays_in_the_picture_and_the_hand_is_steady() -> None:
    centres = np.array([hand(i / RATE) @ (*FACE, 1) for i in range(60 * RATE)])
    assert (np.abs(centres - SIZE / 2) < SIZE / 8).all()
    assert np.abs(np.diff(centres, axis=0)).max() < 2
