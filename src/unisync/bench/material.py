"""What every method of a suite is given: a film as it is taken, and a speech exactly as long."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
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

    Files are named after what they are made of, so that none outlives it. Raises MediaError and OptionError for files
    that cannot be read.
    """
    film = probe(clip.film)
    said = suite.speech_of(clip, protocol)
    if protocol == "self" and not film.has_sound:
        return "the film has no sound of its own"
    sound = Sound(np.zeros(0, np.float32), RATE) if said is None else read_sound(said, RATE)
    shown = taken(suite, film, sound.seconds)
    own = digest(clip.film, suite.seconds)
    place = clip.film
    if not film.still and shown is not film:
        place = folder / f"{clip.name}-{own}.mp4"
        if not place.exists():
            track = Speech(clip.film) if film.has_sound else None
            write_film(read_frames(shown), place, shown, track, NEARLY_LOSSLESS)
    speech = folder / f"{clip.name}-{own}-{digest(said) if said else 'silence'}.wav"
    if not speech.exists():
        num = round(float(shown.duration) * RATE)
        samples = np.zeros(num, np.float32)
        samples[: min(num, len(sound.samples))] = sound.samples[:num]
        private = speech.with_name(f".{speech.name}")
        soundfile.write(private, samples, RATE, subtype="PCM_16", format="WAV")
        private.replace(speech)
    return Material(place, speech, said, said is not None and _is_film(said))


def taken(suite: Suite, film: Film, seconds: float = 0.0) -> Film:
    """Return a clip's film as long as the suite takes it; a still picture as long as a speech of so many seconds."""
    if film.still:
        film = extend(film, seconds or STILL_SECONDS, "hold")
    return cut(film, suite.seconds) if suite.seconds and float(film.duration) > suite.seconds else film


def digest(path: Path, *facts: object) -> str:
    """Return the first figures of the sha256 of a file, and of what else matters. Raises MediaError if it cannot be read."""
    try:
        stat = path.stat()
        whole = _digest(path, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise MediaError(f"{path}: cannot be read ({error.strerror})") from error
    return hashlib.sha256(repr((whole, *facts)).encode()).hexdigest()[:12] if facts else whole[:12]


@lru_cache(maxsize=1024)
def _digest(path: Path, size: int, stamp: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_film(path: Path) -> bool:
    try:
        probe(path)
    except MediaError:
        return False
    return True
