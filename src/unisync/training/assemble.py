"""Film records to a dataset: samples compared with each other, speakers told apart, parts drawn, shards written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from unisync.options import PrepareOptions
from unisync.training.alike import doubles
from unisync.training.dataset import DatasetWriter, Members, Part, Row, read_members, read_rows, read_sample_files
from unisync.training.films import Candidate, FilmRecord, read_record, read_traits
from unisync.training.filters import FILTERS
from unisync.training.identity import NEAR_FACE, SAME_FACE, grouped, held_out
from unisync.types import Floats

DOUBLE = "alike"


@dataclass(frozen=True)
class Prepared:
    """What a dataset is made of.

    films, candidates, samples: how many.  seconds: of film looked at, of samples kept, and of those held out.
    dropped: how many candidates each filter refused, by the first that did.  unreadable: film -> why.
    """

    films: int
    film_seconds: float
    candidates: int
    dropped: dict[str, int]
    samples: int
    seconds: float
    held_seconds: float
    speakers: int
    held_speakers: int
    unreadable: dict[str, str]


@dataclass(frozen=True, eq=False)
class Judged:
    """A candidate with what became of it. speaker, part: of samples that are kept."""

    candidate: Candidate
    speaker: str = ""
    part: Part = "train"


def assemble(out: Path, options: PrepareOptions, speakers: dict[str, str]) -> tuple[Prepared, list[Judged]]:
    """Write OUT's shards from its records, and return what they hold. speakers: film -> speaker, where it is known."""
    records = [read_record(path) for path in sorted((out / "films").glob("*.json"))]
    old = {row.key: row for row in read_rows(out)} if (out / "dataset.json").exists() else {}
    judged = judge(out, records, options, speakers, old)
    prepared = _count(records, judged)
    kept = {item.candidate.key: item for item in judged if not item.candidate.dropped}
    given = {name: value for name, value in options.to_dict().items() if name != "workers"}
    with DatasetWriter(out, {"options": given, **asdict(prepared)}) as writer:
        for key, members in _members(out, kept, old):
            item = kept[key]
            writer.add(key, members, item.part, item.speaker, item.candidate.figures)
    for path in (out / "films").glob("*.tar"):
        path.unlink()
    return prepared, judged


def judge(
    out: Path, records: list[FilmRecord], options: PrepareOptions, speakers: dict[str, str], old: dict[str, Row]
) -> list[Judged]:
    """Return all candidates, doubles dropped, speakers named and parts drawn."""
    candidates = [item for record in records for item in record.candidates]
    samples = sorted((c for c in candidates if not c.dropped), key=lambda c: (c.key not in old, -_detail(c), c.key))
    judged = {c.key: Judged(c) for c in candidates}
    if not samples:
        return list(judged.values())
    looks, prints = _traits(out, [c.key for c in samples])
    if 0 < options.max_alike < 1:
        twins = doubles(prints, looks, options.max_alike)
        for c, twin in zip(samples, twins, strict=True):
            if twin is not None:
                judged[c.key] = Judged(replace(c, dropped=DOUBLE))
        alone = [i for i, twin in enumerate(twins) if twin is None]
        samples, looks = [samples[i] for i in alone], looks[alone]
    films = [str(c.figures["film"]) for c in samples]
    given = [speakers.get(film) or speakers.get(Path(film).name, "") for film in films]
    tracks = [f"{film} {c.track}" for film, c in zip(films, samples, strict=True)]
    names = _named(samples, grouped(looks, SAME_FACE, (tracks,)), given)
    groups = grouped(looks, NEAR_FACE, (films, names))
    if speakers:  # what is known goes before what is seen
        groups = grouped(looks, 0.0, (films, names))
    seconds = np.array([float(c.figures["seconds"]) for c in samples], np.float32)
    held = held_out(groups, seconds, [c.key for c in samples], options.held, options.seed)
    for c, name, out_of_training in zip(samples, names, held, strict=True):
        judged[c.key] = Judged(c, name, "held" if out_of_training else "train")
    return list(judged.values())


def _detail(candidate: Candidate) -> float:
    """Return how much is to be seen: of doubles the one with more is kept."""
    return float(candidate.figures["face"]) * float(candidate.figures["sharpness"])


def _named(samples: list[Candidate], groups: Any, given: list[str]) -> list[str]:
    """Return each sample's speaker: as given, else the first key among the faces it is taken for."""
    first: dict[int, str] = {}
    for c, group in zip(samples, groups.tolist(), strict=True):
        first[group] = min(c.key, first.get(group, c.key))
    return [known or first[group] for known, group in zip(given, groups.tolist(), strict=True)]


def _traits(out: Path, keys: list[str]) -> tuple[Floats, list[Floats]]:
    """Return looks (N, 65) and fingerprints of samples."""
    films = dict.fromkeys(key.rpartition("-")[0] for key in keys)
    every: dict[str, Any] = {}
    for film in films:
        every.update(read_traits(out / "films" / f"{film}.npz"))
    looks = np.stack([every[f"look-{key}"] for key in keys])
    return looks, [every[f"print-{key}"].astype(np.float32) for key in keys]


def _members(out: Path, kept: dict[str, Judged], old: dict[str, Row]) -> Iterator[tuple[str, Members]]:
    """Yield the files of the samples to keep, in the order of their keys: from the films' tars, else from old shards."""
    for film in sorted({key.rpartition("-")[0] for key in kept}):
        path = out / "films" / f"{film}.tar"
        if path.exists():
            yield from ((key, members) for key, members in read_members(path) if key in kept)
        else:
            own = (key for key in sorted(kept) if key.rpartition("-")[0] == film)
            yield from ((key, read_sample_files(out, old[key])) for key in own)


def _count(records: list[FilmRecord], judged: list[Judged]) -> Prepared:
    kept = [item for item in judged if not item.candidate.dropped]
    refused = Counter(item.candidate.dropped for item in judged)
    held = [item for item in kept if item.part == "held"]

    def time(items: list[Judged]) -> float:
        return round(sum(float(item.candidate.figures["seconds"]) for item in items), 1)

    return Prepared(
        films=len(records),
        film_seconds=round(sum(record.seconds for record in records), 1),
        candidates=len(judged),
        dropped={name: refused[name] for name in (*(f.figure for f in FILTERS), DOUBLE)},
        samples=len(kept),
        seconds=time(kept),
        held_seconds=time(held),
        speakers=len({item.speaker for item in kept}),
        held_speakers=len({item.speaker for item in held}),
        unreadable={record.film: record.error for record in records if record.error},
    )
