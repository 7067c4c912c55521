"""What every method of a suite is given: a film as it is taken, and a speech exactly as long."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from unisync.bench.suite import Clip, Protocol, Suite
from unisync.errors import MediaError
from unisync.media import EncodeOptions, Film, Speech, cut, extend, probe, read_frames, read_sound, write_film
from unisync.types import Sound

RATE = 16000
STILL_SECONDS = 4.0
"""How long a still picture is silent."""
NEARLY_LOSSLESS = EncodeOptions("h264", crf=10)


@dataclass(frozen=True)
class Material:
    """film: what methods are given.  speech: a WAV as long as it, 16 kHz, one channel.  said: the speech's own file.

    said is None where it is silence.  seen: whether that is a film.
    """

    film: Path
    speech: Path
    said: Path | None
    seen: bool


def gather(suite: Suite, clip: Clip, protocol: Protocol, folder: Path) -> Material | str:
    """Write the material of a clip into a folder, unless it is there; or return why there is none.

    Raises MediaError and OptionError for files that cannot be read.
    """
    film = probe(clip.film)
    said = suite.speech_of(clip, protocol)
    if protocol == "self" and not film.has_sound:
        return "the film has no sound of its own"
    sound = Sound(np.zeros(0, np.float32), RATE) if said is None else read_sound(said, RATE)
    length = min(lasts(film, sound), suite.seconds or np.inf)
    name = f"{clip.name}-{protocol}"
    place = clip.film
    if film.still:
        film = extend(film, length, "hold")
    elif suite.seconds and float(film.duration) > suite.seconds:
        place = folder / f"{clip.name}.mp4"
        film = cut(film, suite.seconds)
        if not place.exists():
            own = Speech(clip.film) if film.has_sound else None
            write_film(read_frames(film), place, film, own, NEARLY_LOSSLESS)
    speech = folder / f"{name}.wav"
    if not speech.exists():
        num = round(float(film.duration) * RATE)
        samples = np.zeros(num, np.float32)
        samples[: min(num, len(sound.samples))] = sound.samples[:num]
        soundfile.write(speech, samples, RATE, subtype="PCM_16")
    return Material(place, speech, said, said is not None and _is_film(said))


def lasts(film: Film, sound: Sound) -> float:
    """Return how many seconds a film takes with that sound; a still picture as long as the sound."""
    if not film.still:
        return float(film.duration)
    return sound.seconds or STILL_SECONDS


def _is_film(path: Path) -> bool:
    try:
        probe(path)
    except MediaError:
        return False
    return True
