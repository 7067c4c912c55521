"""How a film is to be encoded: codecs, their settings and containers, and whether a film fits, all before any work."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import av

from unisync.errors import MediaError, OptionError
from unisync.media.colour import LIMITED, Tags
from unisync.media.film import Film
from unisync.media.layout import Layout, layout_of

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
"""Speed against size, fastest first."""

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""OUT's suffix -> FFmpeg's name of the container."""


@dataclass(frozen=True)
class EncodeOptions:
    """How the picture is encoded.

    codec: a key of CODECS; None goes by OUT's suffix: vp9 for webm, else h264.  crf: quality, lower is better; None is
    the codec's own default.  preset: one of PRESETS, mapped onto each codec's own speeds; None is the codec's default.
    """

    codec: str | None = None
    crf: int | None = None
    preset: str | None = None


@dataclass(frozen=True)
class Codec:
    """What we know of an encoder.

    fixed: options it is always given.  usual: those it is given where no preset is asked for.  speeds: its own name for each
    of PRESETS, empty where it has no speeds.
    """

    encoder: str
    containers: tuple[str, ...]
    crf: tuple[int, int] | None = None
    fixed: dict[str, str] = field(default_factory=dict)
    usual: dict[str, str] = field(default_factory=dict)
    speed_option: str = "preset"
    speeds: tuple[str, ...] = ()
    even: bool = False
    plays: bool = True


LOOKAHEAD_FRAMES = 4

CODECS = {
    # half of veryfast's time goes into finer motion vectors than these, which a lower crf makes up for, and into
    # blocks of 8 x 8 that move apart, which save nothing on talking heads
    "h264": Codec(
        "libx264",
        ("mp4", "mov", "matroska"),
        (14, 51),
        usual={"preset": "veryfast", "subq": "1", "partitions": "i8x8,i4x4"},
        speeds=PRESETS,
        even=True,
    ),
    "hevc": Codec(
        "libx265", ("mp4", "mov", "matroska"), (20, 51), {"x265-params": "log-level=none"}, speeds=PRESETS, even=True
    ),
    "av1": Codec(
        "libsvtav1",
        ("mp4", "matroska", "webm"),
        (24, 63),
        usual={"preset": "8"},
        speeds=tuple(str(speed) for speed in range(11, 2, -1)),
    ),
    "vp9": Codec(
        "libvpx-vp9",
        ("mp4", "matroska", "webm"),
        (24, 63),
        {"b": "0", "deadline": "good", "row-mt": "1"},
        {"cpu-used": "4"},
        "cpu-used",
        ("8", "7", "6", "5", "4", "3", "2", "1", "0"),
    ),
    "prores": Codec("prores_ks", ("mov", "matroska"), None, {"vendor": "apl0"}, plays=False),
    "ffv1": Codec("ffv1", ("matroska",), None, {"level": "3", "slicecrc": "1"}, plays=False),
}


@dataclass(frozen=True)
class Target:
    """What the encoder is given: its name and options, the pixel format, and the colour tags that go with it."""

    codec: str
    container: str
    encoder: str
    options: dict[str, str]
    pix_fmt: str
    tags: Tags
    even: bool


def container_of(out: Path) -> str:
    """Return FFmpeg's name for the container that OUT's suffix asks for; OptionError for a suffix we do not write."""
    container = CONTAINERS.get(out.suffix.lower())
    if container is None:
        raise OptionError(f"{out} should end in one of {', '.join(CONTAINERS)}, so that its kind of file is known.")
    return container


def check_encode(out: Path, encode: EncodeOptions) -> tuple[str, str]:
    """Return codec and container; OptionError where an option is unknown, out of range or does not fit OUT's suffix."""
    container = container_of(out)
    name = encode.codec or ("vp9" if container == "webm" else "h264")
    if name not in CODECS:
        raise OptionError(f"{name!r} is no codec we write: choose one of {', '.join(CODECS)}.")
    codec = CODECS[name]
    if container not in codec.containers:
        fits = [suffix for suffix, kind in CONTAINERS.items() if kind in codec.containers]
        raise OptionError(
            f"{out.name} cannot hold {name}: let OUT end in {' or '.join(fits)}, or choose another codec."
        )
    if encode.crf is not None:
        if codec.crf is None:
            raise OptionError(f"{name} has no crf: leave crf out, or choose h264, hevc, av1 or vp9.")
        if not 0 <= encode.crf <= codec.crf[1]:
            raise OptionError(f"crf for {name} lies between 0 and {codec.crf[1]}, not {encode.crf}.")
    if encode.preset is not None:
        if not codec.speeds:
            raise OptionError(f"{name} has no presets: leave preset out, or choose h264, hevc, av1 or vp9.")
        if encode.preset not in PRESETS:
            raise OptionError(f"{encode.preset!r} is no preset: choose one of {', '.join(PRESETS)}.")
    return name, container


def target_of(film: Film, out: Path, encode: EncodeOptions) -> Target:
    """Decide how the film is encoded; OptionError where the codec could only hold it with loss of bits or colour.

    The encoder takes the film's own pixel format if it can, else the nearest one that loses nothing (alpha aside).
    Stills and GIFs become 4:2:0 in the codecs meant for playing, since few players show anything else.
    """
    name, container = check_encode(out, encode)
    codec = CODECS[name]
    layout = layout_of(film.pix_fmt)
    pix_fmt = _playable(film, codec) or _nearest(layout, codec)
    if pix_fmt is None:
        others = [other for other, known in CODECS.items() if _nearest(layout, known)]
        hint = f"choose codec {' or '.join(others)}" if others else "convert the film first"
        raise OptionError(
            f"{name} cannot hold {film.path.name}, which is {layout}: {hint} (ffv1 wants .mkv, prores .mov), "
            f"or convert the film to 8-bit 4:2:0 first, for example with ffmpeg -pix_fmt yuv420p."
        )
    speed = codec.usual if encode.preset is None else {codec.speed_option: codec.speeds[PRESETS.index(encode.preset)]}
    options = codec.fixed | speed
    if codec.crf is not None:
        options["crf"] = str(codec.crf[0] if encode.crf is None else encode.crf)
    if name == "hevc" and len(film) <= LOOKAHEAD_FRAMES:
        options["x265-params"] += ":bframes=0"  # x265 gives the second of two frames a time stamp out of nowhere
    if name == "prores":
        options["profile"] = "4444" if "444" in pix_fmt else "hq"
    return Target(name, container, codec.encoder, options, pix_fmt, _target_tags(film, name, pix_fmt), codec.even)


def check_out(out: Path, film: Film, speech: Path | None, encode: EncodeOptions) -> None:
    """Refuse, before any work, an OUT that is one of its own sources, cannot be written, or cannot hold the film."""
    target_of(film, out, encode)
    for source, kind in ((film.path, "film"), (speech, "speech")):
        if source is not None and out.exists() and source.exists() and os.path.samefile(out, source):
            raise OptionError(f"{out} is the {kind} itself: choose another name for OUT.")
    if out.is_dir():
        raise OptionError(f"{out} is a folder: name a file in it.")
    folder = out.absolute().parent
    if not folder.is_dir():
        raise MediaError(f"{folder} is no folder: make it, or choose another place for OUT.")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise MediaError(f"{folder} cannot be written to ({error.strerror}): choose another place for OUT.") from error


def _playable(film: Film, codec: Codec) -> str | None:
    if not codec.plays or not (film.still or film.codec == "gif"):
        return None
    full = layout_of(film.pix_fmt).kind == "yuv" and film.colour.full
    return "yuvj420p" if full and "yuvj420p" in _formats(codec) else "yuv420p"


def _formats(codec: Codec) -> list[str]:
    return [known.name for known in av.Codec(codec.encoder, "w").video_formats or []]


def _nearest(film: Layout, codec: Codec) -> str | None:
    """Return the encoder's pixel format nearest to the film's that loses neither bits nor chroma."""
    best: tuple[int, str] | None = None
    for name in _formats(codec):
        layout = layout_of(name)
        if name == film.name:
            return name
        if not layout.planar and name not in ("bgr0", "bgra"):
            continue
        if layout.bits < film.bits or layout.across > film.across or layout.down > film.down:
            continue
        if layout.kind == "gray" or (film.kind != "gray" and layout.kind != film.kind and "444" not in name):
            continue
        if name.startswith("yuvj") and not film.name.startswith("yuvj"):
            continue
        cost = 1000 * (layout.kind != film.kind) + 100 * (layout.alpha != film.alpha) + 8 * (layout.bits - film.bits)
        cost += film.across - layout.across + film.down - layout.down
        if best is None or cost < best[0]:
            best = cost, name
    return None if best is None else best[1]


def _target_tags(film: Film, codec: str, pix_fmt: str) -> Tags:
    """Return the tags to write: the film's own, as far as its planes stay as they are."""
    was, will = layout_of(film.pix_fmt), layout_of(pix_fmt)
    tags = film.tags
    if will.kind == was.kind:
        if was.kind == "yuv" and codec == "prores" and film.colour.full:
            return Tags(tags.primaries, tags.trc, tags.matrix, LIMITED)  # QuickTime has no tag for full range
        if was.kind == "yuv" and film.colour.full:
            return Tags(tags.primaries, tags.trc, tags.matrix, 2)
        return tags
    return Tags(1 if tags.primaries == 2 else tags.primaries, 1 if tags.trc == 2 else tags.trc, 1, LIMITED)
