"""Frames in memory: dubbed as a file's are, the given ones to the bit outside the masks, never all at once."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import unisync
from faces import frames as as_frames
from faces import lay
from films import steady, uneven
from tiny import tiny_weights
from unisync.arrays import edited
from unisync.dubbing import dub_frames as dub_read_frames
from unisync.media import EncodeOptions, drawn, probe, read_frames, read_sound, write_film
from unisync.methods.unisync import Unisync
from unisync.production import fit
from unisync.scanning import scan_film
from unisync.types import Edit

NUM, RATE = 14, 25
Options = Callable[..., unisync.DubOptions]


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Options:
    weights = str(tiny_weights(tmp_path_factory.mktemp("weights")))

    def make(**changes: Any) -> unisync.DubOptions:
        return unisync.DubOptions.from_dict({"weights": weights, "steps": 2, "threads": 1, **changes})

    return make


@pytest.fixture(scope="module")
def frames() -> unisync.Pixels:
    """Two faces, uint8 (14, 360, 480, 3)."""
    return np.stack([lay([(130 + i, 170, 1.2), (350, 180 - i, 1.0)]) for i in range(NUM)])


@pytest.fixture(scope="module")
def speech() -> tuple[Any, int]:
    noise = np.random.default_rng(0).normal(0, 0.1, NUM * 48000 // RATE)
    return np.stack([noise, -noise / 2], 1).astype(np.float32), 48000


def test_as_a_file_is(options: Options, frames: unisync.Pixels, speech: tuple[Any, int], tmp_path: Path) -> None:
    path, wav, given = tmp_path / "film.mkv", tmp_path / "speech.wav", options(face="all")
    film = drawn("x", 480, 360, RATE, NUM)
    write_film(as_frames(frames), path, film, None, EncodeOptions("h264", 16, "ultrafast"))
    soundfile.write(wav, *speech, subtype="FLOAT")
    film = probe(path)
    read = np.stack([frame.pixels for frame in read_frames(film)])
    film, sound, _, _ = fit(film, read_sound(wav), wav, given)
    plan = scan_film(film)
    wanted = [
        frame.pixels for frame in dub_read_frames(film, plan, {t.name: sound for t in plan.tracks}, Unisync(given))
    ]
    made = unisync.dub_frames(read, speech, fps=RATE, options=given)
    assert made.seconds == film.seconds and len(made.chosen) == 2 and not made.warnings
    assert np.array_equal(made.array(), np.stack(wanted))
    read_from_file = unisync.dub_frames(read[:1], wav, fps=RATE, options=options(method="echo"))
    assert len(read_from_file) == NUM and read_from_file.speech() is None


@pytest.mark.parametrize("kind", ["uint8", "torch"])
def test_outside_the_masks_bits_are_the_given_ones(
    options: Options, frames: unisync.Pixels, speech: tuple[Any, int], kind: str
) -> None:
    noise = np.random.default_rng(1).uniform(-0.001, 0.001, frames.shape)
    given: Any = frames if kind == "uint8" else torch.tensor(frames / 255 + noise, dtype=torch.float32)
    before = given.copy() if isinstance(given, np.ndarray) else given.clone()
    made = unisync.dub_frames(given, speech, fps=RATE, options=options()).array()
    assert type(made) is type(given) and made.dtype == given.dtype and made.shape == given.shape
    assert bool((given == before).all()), "what was given must not change"
    changed = np.asarray(made != given).any(-1)
    assert not changed[:, :, 240:].any() and 0.005 < changed.mean() < 0.1
    assert not changed[:, :120].any()


@pytest.mark.parametrize("kind", ["uint8", "float16", "float32", "float64", "torch", "torch uint8", "torch half"])
def test_an_edit_is_laid_on_any_kind(kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    given: Any = pixels if kind == "uint8" else (pixels / 255).astype(kind if "float" in kind else "float32")
    if "torch" in kind:
        given = torch.tensor(pixels) if "uint8" in kind else torch.tensor(given)
        given = given.half() if "half" in kind else given
    mask = np.zeros((8, 10), np.float32)
    mask[2:5, 3:6] = 0.2
    painted = np.full((8, 10, 3), 51, np.uint8)
    made = edited(given, [Edit(4, 6, painted, mask)])
    inside = np.zeros((20, 30), bool)
    inside[8:11, 7:10] = True
    assert made.dtype == given.dtype and type(made) is type(given)
    new, old = np.asarray(made), np.asarray(given)
    assert np.array_equal(new[~inside], old[~inside])
    assert np.allclose(new[inside].astype(float), 51 if new.dtype == np.uint8 else 0.2, atol=1e-3)


def test_variable_rate_loops_and_what_is_heard(
    options: Options, frames: unisync.Pixels, speech: tuple[Any, int]
) -> None:
    times = [3 + moment for moment in uneven(1)[:NUM]]
    echo = options(method="echo")
    made = unisync.dub_frames(frames, speech, seconds=times, options=echo)
    assert made.seconds == tuple(moment - 3 for moment in times)
    samples, rate = made.speech() or (np.zeros((0, 0)), 0)
    assert rate == 48000 and samples.shape == (round(made._film.duration * 48000), 2)
    longer = np.tile(speech[0], (2, 1)), 48000
    made = unisync.dub_frames(frames, longer, fps=RATE, options=options(method="echo", when_longer="bounce"))
    assert len(made) == 2 * NUM
    assert np.abs(made.array()[NUM : NUM + 12].astype(int) - frames[12:0:-1]).mean() < 0.1
    made = unisync.dub_frames(frames, longer, fps=RATE, options=echo)
    assert len(made) == NUM and "longer than the film" in made.warnings[0]
    short = (speech[0][:4800, 0] * 32767).astype(np.int16), 48000
    made = unisync.dub_frames(frames, short, fps=RATE, options=options(method="echo", when_shorter="loop"))
    samples, _ = made.speech() or (np.zeros((0, 0)), 0)
    assert np.array_equal(samples[:4800], samples[4800:9600]) and samples.dtype == np.float32
    assert unisync.dub_frames(frames[:1], speech, fps=RATE, options=echo).seconds == tuple(steady(RATE, 0.56))


def test_frames_are_never_all_held(options: Options, speech: tuple[Any, int]) -> None:
    peaks: list[int] = []
    living: set[int] = set()
    picture = lay([(240, 170, 1.2)])

    class Film:
        shape = (100, 360, 480, 3)

        def __getitem__(self, index: int) -> Any:
            frame = picture.copy()
            number = len(peaks)
            living.add(number)
            weakref.finalize(frame, living.discard, number)
            peaks.append(len(living))
            return frame

    made = unisync.dub_frames(Film(), speech, fps=250, options=options(method="echo"))
    assert sum(1 for _ in made) == 100
    assert len(peaks) > 300 and max(peaks) < 50


def test_stopping_and_leaving_early_stop_the_threads(
    options: Options, frames: unisync.Pixels, speech: tuple[Any, int]
) -> None:
    def stop(progress: unisync.Progress) -> None:
        if (progress.stage, progress.done) == ("dub", 3):
            raise unisync.Cancelled

    made = unisync.dub_frames(frames, speech, fps=RATE, options=options(method="echo"), on_progress=stop)
    with pytest.raises(unisync.Cancelled):
        made.array()
    for _ in unisync.dub_frames(frames, speech, fps=RATE, options=options(method="echo")):
        break
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "one frame": ({"frames": np.zeros((360, 480, 3), np.uint8)}, r"\(T, H, W, 3\).*not \(360, 480, 3\)"),
    "alpha": ({"frames": np.zeros((2, 36, 48, 4), np.uint8)}, r"not \(2, 36, 48, 4\)"),
    "channels first": ({"frames": np.zeros((2, 3, 36, 48), np.uint8)}, r"not \(2, 3, 36, 48\)"),
    "none": ({"frames": np.zeros((0, 36, 48, 3), np.uint8)}, "one or more"),
    "a list": ({"frames": [np.zeros((36, 48, 3), np.uint8)]}, "not list"),
    "16 bits": ({"frames": np.zeros((2, 36, 48, 3), np.uint16)}, "not uint16"),
    "bfloat16": ({"frames": torch.zeros((2, 36, 48, 3), dtype=torch.bfloat16)}, "not torch.bfloat16"),
    "0 to 255": ({"frames": np.full((2, 36, 48, 3), 255.0, np.float32)}, r"frame 0 holds values from 255 to 255"),
    "no number": ({"frames": np.full((2, 36, 48, 3), np.nan, np.float32)}, "frame 0 holds values from nan"),
    "no clock": ({"fps": None}, "either fps"),
    "two clocks": ({"seconds": [0, 1]}, "either fps"),
    "no rate": ({"fps": 0}, "fps must be"),
    "too few times": ({"fps": None, "seconds": [0.0]}, "one number for each of 2 frames, not 1"),
    "times fall": ({"fps": None, "seconds": [1.0, 0.5]}, "ascend"),
    "no speech": ({"speech": (np.zeros(0, np.float32), 16000)}, r"not \(0,\)"),
    "channels first in speech": ({"speech": (np.zeros((1, 9000), np.float32), 16000)}, r"\(N, channels\)"),
    "speech of bools": ({"speech": (np.zeros(9000, bool), 16000)}, "not bool"),
    "speech without rate": ({"speech": (np.zeros(9000, np.float32), 0.5)}, "rate must be"),
    "speech of nothing": ({"speech": (np.full(9000, np.inf, np.float32), 16000)}, "not finite"),
}


@pytest.mark.parametrize(("changes", "words"), BAD.values(), ids=BAD)
def test_what_is_of_another_kind_is_refused(changes: dict[str, Any], words: str) -> None:
    given: dict[str, Any] = {
        "frames": np.zeros((2, 36, 48, 3), np.uint8),
        "speech": (np.zeros(9000, np.float32), 16000),
        "fps": Fraction(30000, 1001),
        "options": unisync.DubOptions(method="echo"),
        **changes,
    }
    with pytest.raises(unisync.OptionError, match=words):
        unisync.dub_frames(given.pop("frames"), given.pop("speech"), **given)
