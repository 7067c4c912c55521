"""What training reads: samples in webdataset shards, and one line of figures for each.

    DATASET/dataset.json     what it is, and the options it was made with
    DATASET/samples.jsonl    a `Row` per sample
    DATASET/shards-N/PART-NNNNN.tar  KEY.json, KEY.frames, KEY.landmarks.npy and KEY.flac per sample, one after another

KEY.frames is the canvases as JPEG (or lossless WebP) files end to end; KEY.json has their lengths. Landmarks are float16,
in canvas sides from the canvas' middle, so that they keep a thirtieth of a pixel of 128.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np
import soundfile
from numpy.typing import NDArray

from unisync.audio.mel import RATE
from unisync.errors import MediaError
from unisync.types import NUM_LANDMARKS, Floats, Pixels
from unisync.whole import write_whole

VERSION = 1
SHARD_BYTES = 1 << 29
QUALITY = 95

Part = Literal["train", "held"]
Figures = dict[str, float | str]
Members = dict[str, bytes]
"""A sample's files, by what stands after KEY and the dot."""


@dataclass(frozen=True, eq=False)
class Canvases:
    """One face through one shot.

    pixels: uint8 (T, S, S, 3).  landmarks: float32 (T, 468, 2) canvas px.  seconds: float64 (T,), the first at 0.
    samples: int16 (N,) at 16 kHz from the first frame on, empty for a silent film.  speaker: who it is, as far as known.
    """

    pixels: Pixels
    landmarks: Floats
    seconds: NDArray[np.float64]
    samples: NDArray[np.int16]
    speaker: str


@dataclass(frozen=True, eq=False)
class Sample:
    """One face speaking for some seconds, and what was measured of it."""

    key: str
    canvases: Canvases
    figures: Figures


@dataclass(frozen=True)
class Row:
    """One line of samples.jsonl: where a sample lies, and what can be known of it without opening it.

    shard: its path in the dataset.  offset, length: the sample's bytes there.
    """

    key: str
    part: Part
    speaker: str
    frames: int
    shard: str
    offset: int
    length: int
    figures: Figures


def read_samples(dataset: Path, part: str | None = None) -> Iterator[Sample]:
    """Yield the samples of a part, or all; no speaker is in both parts. Raises MediaError."""
    for row in read_rows(dataset, part):
        yield read_sample(dataset, row)


def read_rows(dataset: Path, part: str | None = None) -> list[Row]:
    """Return the lines of a part, or all, in the shards' order. Raises MediaError where there is no dataset."""
    if part is not None and part not in get_args(Part):
        raise ValueError(f"part must be one of {', '.join(get_args(Part))}, not {part!r}")
    read_about(dataset)
    try:
        lines = (dataset / "samples.jsonl").read_text("utf-8").splitlines()
        rows = [Row(**json.loads(line)) for line in lines]
    except (OSError, ValueError, TypeError) as error:
        raise MediaError(f"{dataset / 'samples.jsonl'} is missing or damaged; prepare the dataset again.") from error
    return [row for row in rows if part in (None, row.part)]


def read_about(dataset: Path) -> dict[str, Any]:
    """Return what dataset.json says. Raises MediaError where there is none, or a newer one than this version reads."""
    try:
        about: dict[str, Any] = json.loads((dataset / "dataset.json").read_text("utf-8"))
        newer = about["version"] > VERSION
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise MediaError(
            f"{dataset} is no finished dataset; make one with 'unisync prepare FOLDER -o {dataset}'."
        ) from error
    if newer:
        raise MediaError(f"{dataset} was prepared by a newer version of unisync; update it.")
    return about


def read_sample(dataset: Path, row: Row) -> Sample:
    """Return the sample of a row. Raises MediaError where the shard is missing or damaged."""
    try:
        return Sample(row.key, unpack(read_sample_files(dataset, row), row.speaker), row.figures)
    except (ValueError, KeyError, soundfile.LibsndfileError) as error:
        raise _damaged(dataset, row, error) from error


def read_sample_files(dataset: Path, row: Row) -> Members:
    """Return a sample's files as they lie in the shard. Raises MediaError where it is missing or damaged."""
    try:
        with (dataset / row.shard).open("rb") as file:
            file.seek(row.offset)
            ((_, members),) = read_members(io.BytesIO(file.read(row.length)))
        return members
    except (OSError, tarfile.TarError, ValueError) as error:
        raise _damaged(dataset, row, error) from error


def pack(canvases: Canvases, lossless: bool = False) -> Members:
    """Return the files of one sample; KEY.json says how to read the others."""
    pictures = [_encoded(image, lossless) for image in canvases.pixels]
    about = {"lengths": [len(p) for p in pictures], "seconds": [round(float(s), 6) for s in canvases.seconds]}
    size = canvases.pixels.shape[1]
    landmarks = io.BytesIO()
    np.save(landmarks, (canvases.landmarks / size - 0.5).astype(np.float16))
    members = {"json": json.dumps(about).encode(), "frames": b"".join(pictures), "landmarks.npy": landmarks.getvalue()}
    if len(canvases.samples):
        sound = io.BytesIO()
        soundfile.write(sound, canvases.samples, RATE, format="FLAC", subtype="PCM_16")
        members["flac"] = sound.getvalue()
    return members


def unpack(members: Members, speaker: str) -> Canvases:
    """Return what `pack` was given. Raises ValueError or KeyError for files that are not a sample's."""
    about = json.loads(members["json"])
    ends = list(accumulate(about["lengths"]))
    pictures = [members["frames"][a:b] for a, b in zip([0, *ends], ends, strict=False)]
    pixels = np.stack([_decoded(picture) for picture in pictures])
    places = np.load(io.BytesIO(members["landmarks.npy"]), allow_pickle=False)
    if places.shape != (len(pixels), NUM_LANDMARKS, 2) or len(about["seconds"]) != len(pixels):
        raise ValueError(f"{len(pixels)} canvases, {len(about['seconds'])} moments and landmarks {places.shape}")
    samples = np.zeros(0, np.int16)
    if "flac" in members:
        samples, _ = soundfile.read(io.BytesIO(members["flac"]), dtype="int16")
    return Canvases(
        pixels=pixels,
        landmarks=(places.astype(np.float32) + np.float32(0.5)) * np.float32(pixels.shape[1]),
        seconds=np.array(about["seconds"], np.float64),
        samples=samples,
        speaker=speaker,
    )


class DatasetWriter:
    """Writes new shards beside those of a dataset that may be there, then lets samples.jsonl name them instead.

    Used as a context: what fails or is killed inside leaves the old dataset as it was.
    """

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self._folder, self._about = folder, {"version": VERSION, **about}
        self._name = _next_shards(folder)
        self._shards: dict[Part, tarfile.TarFile] = {}
        self._counts: dict[Part, int] = {}
        self._rows: list[Row] = []

    def __enter__(self) -> DatasetWriter:
        shutil.rmtree(self._folder / self._name, ignore_errors=True)  # left by one that was killed
        (self._folder / self._name).mkdir(parents=True)
        return self

    def add(self, key: str, members: Members, part: Part, speaker: str, figures: Figures) -> None:
        """Append one sample. Keys have no dot, and none comes twice."""
        shard = self._shard(part)
        offset = shard.offset
        about = json.loads(members["json"])
        words = {"key": key, "part": part, "speaker": speaker, "figures": figures}
        json_member = json.dumps({**about, **words}, ensure_ascii=False).encode()
        append(shard, key, {**members, "json": json_member})
        name, frames = f"{self._name}/{Path(str(shard.name)).name}", len(about["lengths"])
        self._rows.append(Row(key, part, speaker, frames, name, offset, shard.offset - offset, figures))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for shard in self._shards.values():
            shard.close()
        if kind is not None:
            shutil.rmtree(self._folder / self._name)
            return
        order = sorted(self._rows, key=lambda row: (row.shard, row.offset))
        rows = "".join(f"{json.dumps(asdict(row), ensure_ascii=False)}\n" for row in order)
        write_whole(self._folder / "samples.jsonl", rows)
        write_whole(self._folder / "dataset.json", json.dumps(self._about, indent=1, ensure_ascii=False) + "\n")
        for old in self._folder.glob("shards-*"):
            if old.name != self._name:
                shutil.rmtree(old)

    def _shard(self, part: Part) -> tarfile.TarFile:
        now = self._shards.get(part)
        if now is not None and now.offset < SHARD_BYTES:
            return now
        if now is not None:
            now.close()
        number = self._counts[part] = self._counts.get(part, -1) + 1
        path = self._folder / self._name / f"{part}-{number:05d}.tar"
        self._shards[part] = tarfile.open(path, "w", format=tarfile.GNU_FORMAT)  # noqa: SIM115 - closed on leaving
        return self._shards[part]


def append(tar: tarfile.TarFile, key: str, members: Members) -> None:
    """Append a sample's files, the same bytes at any hour and for any user."""
    for name, data in members.items():
        info = tarfile.TarInfo(f"{key}.{name}")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))


def read_members(file: io.BytesIO | Path) -> Iterator[tuple[str, Members]]:
    """Yield (key, files) of the samples in a tar."""
    key, members = "", Members()
    with tarfile.open(file) if isinstance(file, Path) else tarfile.open(fileobj=file) as tar:
        for info in tar:
            own, _, name = info.name.partition(".")
            data = tar.extractfile(info)
            assert data is not None
            if own != key and members:
                yield key, members
                members = Members()
            key, members[name] = own, data.read()
    if members:
        yield key, members


def _next_shards(folder: Path) -> str:
    """Return the name of the shards' folder that follows the one in use."""
    try:
        first = (folder / "samples.jsonl").read_text("utf-8").split("\n", 1)[0]
        return f"shards-{int(json.loads(first)['shard'].split('/')[0].removeprefix('shards-')) + 1}"
    except (OSError, ValueError, KeyError):
        return "shards-1"


def _damaged(dataset: Path, row: Row, error: Exception) -> MediaError:
    return MediaError(f"{dataset / row.shard} is damaged at sample {row.key} ({error}); prepare the dataset again.")


def _encoded(image: Pixels, lossless: bool) -> bytes:
    if lossless:
        kind, how = ".webp", [cv2.IMWRITE_WEBP_QUALITY, 101]  # beyond 100 it is lossless
    else:
        sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]  # lips are red on skin
        kind, how = ".jpg", [cv2.IMWRITE_JPEG_QUALITY, QUALITY, *sampling]
    _, data = cv2.imencode(kind, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), how)
    return data.tobytes()


def _decoded(picture: bytes) -> Pixels:
    image = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError("a canvas cannot be decoded")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
