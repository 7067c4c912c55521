"""Films made by code, with PyAV alone, whose every frame and sample is known.

A drawn face opens its mouth by known amounts. At the first frame of every second the picture is white and the sound
clicks at that very moment, so that sync can be proved to the frame and to the sample.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import TypedDict, Unpack

import av
import numpy as np
from av.container import OutputContainer
from numpy.typing import NDArray

RATES = (Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(60))
SOUND_RATE = 48000
CLICK = 24
"""Samples of a click, half a millisecond."""

Pixels = NDArray[np.uint8]


class Details(TypedDict, total=False):
    """More about a film. rotation: degrees counter-clockwise on showing; tags: primaries, trc, matrix, range."""

    sound: bool
    rotation: int
    tags: tuple[int, int, int, int]
    options: dict[str, str]
    aspect: Fraction
    rate: Fraction | int


def steady(rate: Fraction | int, seconds: float = 2) -> list[Fraction]:
    """Return the frame times of a film of constant rate."""
    return [index / Fraction(rate) for index in range(round(seconds * rate))]


def uneven(seconds: float = 2) -> list[Fraction]:
    """Return the frame times of a film of variable rate, in 1/90000 s: 10 to 60 frames a second."""
    steps, ticks, at = [1500, 3003, 9000, 3750, 1501, 6000], [], 0
    while at < seconds * 90000:
        ticks.append(Fraction(at, 90000))
        at += steps[len(ticks) % len(steps)]
    return ticks


def mouth_opening(seconds: Fraction | float) -> float:
    """Return how far the drawn mouth is open, 0 to 1."""
    return float(0.5 - 0.5 * np.cos(2 * np.pi * 1.5 * float(seconds)))


def draw_face(width: int, height: int, opening: float) -> Pixels:
    """Draw a face, uint8 (H, W, 3): the mouth is an ellipse as high as `opening` times a sixth of the picture."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    across, down = (x - width / 2) / height, y / height
    pixels = np.empty((height, width, 3))
    pixels[:] = np.stack([40 + 60 * down, 90 + 40 * np.sin(x / 9), 130 - 50 * down], -1)

    def fill(cx: float, cy: float, rx: float, ry: float, colour: tuple[int, int, int]) -> None:
        pixels[((across - cx) / rx) ** 2 + ((down - cy) / max(ry, 1e-6)) ** 2 <= 1] = colour

    fill(0, 0.5, 0.33, 0.44, (224, 172, 140))
    for side in (-0.13, 0.13):
        fill(side, 0.38, 0.055, 0.035, (250, 250, 250))
        fill(side, 0.38, 0.022, 0.03, (50, 70, 40))
        fill(side, 0.30, 0.08, 0.012, (70, 45, 30))
    fill(0, 0.53, 0.03, 0.06, (205, 150, 120))
    fill(0, 0.72, 0.13, 0.02 + opening / 12, (180, 70, 75))
    fill(0, 0.72, 0.10, opening / 12, (60, 15, 20))
    return pixels.round().astype(np.uint8)


def flash_indices(times: Iterable[Fraction]) -> list[int]:
    """Return which frames are white: the first of every second."""
    found, due = [], 0
    for index, time in enumerate(times):
        if time >= due:
            found.append(index)
            due = int(time) + 1
    return found


def click_track(moments: Iterable[Fraction | float], seconds: float, rate: int = SOUND_RATE) -> NDArray[np.float32]:
    """Return float32 (1, N): silence with a click starting at each moment."""
    samples = np.zeros((1, round(seconds * rate)), np.float32)
    for moment in moments:
        at = round(moment * rate)
        samples[0, at : at + CLICK] = 0.8
    return samples


def make_film(
    path: Path,
    times: list[Fraction],
    size: tuple[int, int] = (128, 96),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    **details: Unpack[Details],
) -> Path:
    """Write a film and return its path. size: upright (W, H)."""
    time_base = Fraction(1, int(np.lcm.reduce([25, *(time.denominator for time in times)])))
    if details.get("rate"):
        time_base = 1 / Fraction(details["rate"])
    white = set(flash_indices(times))
    rotation = details.get("rotation", 0)
    options = {"preset": "ultrafast"} if codec in ("libx264", "libx265") else {}
    if codec == "libx265":
        options["x265-params"] = "log-level=none"
    options.update(details.get("options", {}))
    with av.open(str(path), "w") as container:
        rate = details.get("rate") or (len(times) - 1) / times[-1]
        stream = container.add_stream(codec, rate=Fraction(rate).limit_denominator(100000), options=options)
        assert isinstance(stream, av.VideoStream)
        swaps = rotation % 180 != 0
        stream.width, stream.height = size[::-1] if swaps else size
        stream.pix_fmt = pix_fmt
        context = stream.codec_context
        context.time_base = time_base
        context.sample_aspect_ratio = details.get("aspect", Fraction(1))
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = details.get(
            "tags", (2, 2, 2, 0)
        )
        if rotation:
            stream.set_display_rotation(rotation)
        sound = _add_sound(container, path) if details.get("sound", True) else None
        for index, time in enumerate(times):
            pixels = np.full((size[1], size[0], 3), 255, np.uint8)
            if index not in white:
                pixels = draw_face(*size, mouth_opening(time))
            stored = np.ascontiguousarray(np.rot90(pixels, -rotation // 90))
            frame = av.VideoFrame.from_ndarray(stored, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = int(time / time_base), time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            length = float(times[-1] * len(times) / (len(times) - 1))
            _encode(container, sound, click_track([times[index] for index in sorted(white)], length))
    return path


def make_sound(path: Path, moments: Iterable[Fraction | float], seconds: float, rate: int = SOUND_RATE) -> Path:
    """Write clicks to a sound file; its suffix chooses the codec."""
    with av.open(str(path), "w") as container:
        _encode(container, _add_sound(container, path, rate), click_track(moments, seconds, rate), rate)
    return path


def make_still(path: Path, size: tuple[int, int] = (128, 96)) -> Path:
    """Write a picture of the face, png or jpg."""
    codec, pix_fmt = ("png", "rgb24") if path.suffix == ".png" else ("mjpeg", "yuvj420p")
    with av.open(str(path), "w", format="image2") as container:
        stream = container.add_stream(codec, rate=25, options={"qscale": "2"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        frame = av.VideoFrame.from_ndarray(draw_face(*size, 0.5), format="rgb24").reformat(format=pix_fmt)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def make_truncated(path: Path, whole: Path, part: float = 0.6) -> Path:
    """Write the first part of another file."""
    data = whole.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    return path


def make_text(path: Path) -> Path:
    """Write a text, whatever the name says."""
    path.write_text("This is no film.\n" * 100)
    return path


def flashes(frames: Iterable[tuple[Fraction, Pixels]]) -> list[Fraction]:
    """Return the times of the white frames."""
    return [time for time, pixels in frames if pixels.mean() > 240]


def clicks(samples: NDArray[np.float32], rate: int) -> list[int]:
    """Return the sample at which each click starts."""
    loud = np.flatnonzero(np.abs(samples) > 0.4 * np.abs(samples).max())
    return [int(at) for number, at in enumerate(loud) if number == 0 or at - loud[number - 1] > rate // 10]


def _add_sound(container: OutputContainer, path: Path, rate: int = SOUND_RATE) -> av.AudioStream:
    codecs = {".wav": "pcm_s16le", ".mp3": "libmp3lame", ".opus": "libopus", ".webm": "libopus"}
    codec = codecs.get(path.suffix, "flac" if path.suffix in (".mkv", ".flac") else "aac")
    stream = container.add_stream(codec, rate=rate)
    assert isinstance(stream, av.AudioStream)
    stream.codec_context.layout = "mono"
    stream.codec_context.time_base = Fraction(1, rate)
    return stream


def _encode(
    container: OutputContainer, stream: av.AudioStream, samples: NDArray[np.float32], rate: int = SOUND_RATE
) -> None:
    for start in range(0, samples.shape[1], 4800):
        part = np.ascontiguousarray(samples[:, start : start + 4800])
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), start
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
