"""Folders of films as suites: a folder of anybody's, and those of the published benchmarks as people have them.

No film is decoded here: names, folders and manifests say what belongs together; only files that might lend their
speech are opened, to see whether they have sound.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from unisync.bench.manifest import NO, YES, Manifest, cell, read_manifest
from unisync.bench.suite import FILMS, SOUNDS, STILLS, SUFFIXES, Clip, Suite
from unisync.errors import MediaError, OptionError
from unisync.media.probe import open_input
from unisync.parse import suggest

Layout = Literal["auto", "plain", "hdtf", "aigc-lipsync", "realworld-lipsync"]

TRUTH = ".truth"

TAG_COLUMNS = (
    *("category", "categories", "type", "types", "tag", "tags", "style", "class", "group", "subset", "scenario"),
    *("attribute", "attributes", "dimension"),
)
"""Columns whose words are tags as they stand."""
AIGC = ("profile", "light", "occlusion", "stylised")
"""The kinds of difficulty that the paper of AIGC-LipSync names."""
REALWORLD = ("scene", "light", "character")
"""The dimensions that the paper of RealWorld-LipSync names."""
SPELLINGS = {
    "stylized": "stylised",
    "lighting": "light",
    "occluded": "occlusion",
    "characters": "character",
    "scenes": "scene",
}
PARTS = ("RD", "WDA", "WRA")
HOLDERS = ("video", "videos", "film", "films", "clip", "clips", "audio", "audios", "data")
"""Folders that only hold things: no categories."""

_HDTF = re.compile(r"(?:(?P<part>RD|WDA|WRA)_)?(?P<who>.+?)_\d+", re.IGNORECASE)


def import_folder(folder: Path, layout: Layout = "auto") -> Suite:
    """Return a suite of a folder's films, its methods and protocols left at their defaults.

    plain: every film and still in the folder and below, tagged with its folders' names; a sound of the same stem beside
    a film is its speech, STEM.truth.SUFFIX its truth.  hdtf: films RD_, WDA_ or WRA_NAME_N.mp4, see `hdtf_clips`.
    aigc-lipsync, realworld-lipsync: a manifest, or categories as folders, see `benchmark_clips`.  auto: what it looks like.

    Hidden files are left out. A clip without speech is given the next film's that has sound.
    Raises OptionError where there is no such folder, no film in it, or where a manifest names what is not there.
    """
    known = get_args(Layout)
    if layout not in known:
        raise OptionError(f"layout must be one of {', '.join(known)}, not {layout!r}{suggest(layout, known)}")
    files = _files(folder)
    kind = _recognised(folder, files) if layout == "auto" else layout
    if kind == "hdtf":
        clips = hdtf_clips(folder, files)
    elif kind == "plain":
        clips = plain_clips(folder, files)
    else:
        clips = benchmark_clips(folder, files, REALWORLD if kind == "realworld-lipsync" else AIGC)
    return Suite(name=suite_name(folder), clips=lend_speech(clips, has_sound))


def find_clips(folder: Path) -> tuple[Clip, ...]:
    """Return what the layout plain finds, nobody given another's speech."""
    return plain_clips(folder, _files(folder))


def suite_name(folder: Path) -> str:
    """Return the folder's own name, such as a suite may have."""
    return folder.resolve().name.lstrip(".") or "suite"


def has_sound(path: Path) -> bool:
    """Return whether a file has sound; one that cannot be opened has none to lend."""
    try:
        with open_input(path) as container:
            return bool(container.streams.audio)
    except MediaError:
        return False


def lend_speech(clips: Sequence[Clip], speaks: Callable[[Path], bool]) -> tuple[Clip, ...]:
    """Name a speech where the next clip of another film, which a suite would take, is a still or has no sound.

    speaks: whether a film has sound; only those are asked that others might borrow from, once.
    """
    speaks, given = cache(speaks), []
    for at, clip in enumerate(clips):
        if clip.speech is None:
            others = [each.film for each in (*clips[at + 1 :], *clips[:at]) if each.film != clip.film]
            lender = next((film for film in others if speaks(film)), None)
            if lender is not None and lender != others[0]:
                clip = replace(clip, speech=lender)
        given.append(clip)
    return tuple(given)


def plain_clips(folder: Path, files: Sequence[Path]) -> tuple[Clip, ...]:
    """Return every film and still, with its folders as tags and what lies beside it. Sounds of no film are left aside."""
    return _clips(folder, files, tuple)


def hdtf_clips(folder: Path, files: Sequence[Path]) -> tuple[Clip, ...]:
    """Return the clips of HDTF: each is given the speech of the next film of another speaker, round and round.

    Known: the authors list recordings in three parts, RD, WDA and WRA, give clips the recording's name and a number, and
    leave cutting and cropping to their users; the usual scripts write PART_NAME_NNN.mp4, all in one folder, raw
    recordings (without a number) elsewhere. Sound is in the films, or in files of the same stem, in audio/ say. A film
    NAME_N.mp4, as the authors would have it, is known by a folder RD, WDA or WRA.
    Our reading: a figure at the name's end counts a person's recordings (JohnKasich0, JohnKasich3: one person), but
    names the recording where nobody is named (Radio11, Radio12: taken for two). The part is the tag.
    """
    known = {film: about for film in _films(files) if (about := _hdtf(folder, film)) is not None}
    if not known:
        raise OptionError(
            f"{folder}: no film in it is called as HDTF's are (RD_, WDA_ or WRA_NAME_N.mp4); import it as plain"
        )
    films = list(known)
    sounds = {path.stem: path for path in reversed(files) if path.suffix.lower() in SOUNDS}
    truths = _truths(files, _films(files))
    clips = []
    for at, (name, film) in enumerate(zip(clip_names(folder, films), films, strict=True)):
        part, who = known[film]
        other = next((each for each in (*films[at + 1 :], *films[:at]) if known[each][1] != who), None)
        speech = None if other is None else sounds.get(other.stem, other)
        truth = truths.get(film.with_suffix(""))
        clips.append(Clip(name=name, film=film, speech=speech, truth=truth, tags=(part,)))
    return tuple(clips)


def benchmark_clips(folder: Path, files: Sequence[Path], kinds: Sequence[str]) -> tuple[Clip, ...]:
    """Return the clips of a benchmark like AIGC-LipSync or RealWorld-LipSync. kinds: AIGC or REALWORLD.

    Known of AIGC-LipSync (OmniSync, arXiv 2505.21448): 615 generated films with profiles, hard light, occlusion, 90 of
    them of stylised characters. Lists of benchmarks name a data set of its first author (AIGC_LipSync_Benchmark); how
    its files lie is not known to us.
    Known of RealWorld-LipSync (UniSync, arXiv 2603.03882): 495 films of 1080p or more, 2 to 15 s, by scene (stage,
    indoors, outdoors, moving camera), light and character. It was announced, we have not seen it published.

    Our reading, for whatever form they come in: a table beside the films (CSV, TSV, JSON, JSON lines) with a column for
    the film and perhaps others, under any name in COLUMNS and TAG_COLUMNS; columns called like the benchmark's kinds are
    tags "kind:value", or "kind" where they say yes. Without a table folders are categories: below a dimension of
    RealWorld's they become "scene:stage" and the like, else each folder is a tag; a sound of the same stem in
    another folder is the film's speech if it is the only one.
    """
    table = read_manifest(folder)
    if table is not None:
        return _listed(folder, files, table)
    return _clips(folder, files, partial(_categories, kinds=kinds), far=True)


def clip_names(folder: Path, films: Sequence[Path]) -> list[str]:
    """Return a name of its own for each film: its path in the folder, dashes for slashes, the suffix where needed."""
    below = [film.relative_to(folder) if film.is_relative_to(folder) else Path(film.name) for film in films]
    short = ["-".join(path.with_suffix("").parts).lstrip(".") or "film" for path in below]
    num = Counter(short)
    return _unique(
        [
            name if num[name] == 1 else f"{name}-{path.suffix[1:].lower()}"
            for name, path in zip(short, below, strict=True)
        ]
    )


def _files(folder: Path) -> list[Path]:
    if not folder.exists():
        raise OptionError(f"{folder}: there is no such folder; check its name")
    if not folder.is_dir():
        raise OptionError(f"{folder}: is a file, not a folder; name the folder that it lies in")
    shown = (
        path
        for path in folder.rglob("*")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts) and path.is_file()
    )
    return sorted(shown, key=lambda path: path.relative_to(folder).as_posix())


def _films(files: Sequence[Path]) -> list[Path]:
    return [path for path in files if path.suffix.lower() in FILMS + STILLS and not path.stem.endswith(TRUTH)]


def _clips(
    folder: Path, files: Sequence[Path], tags: Callable[[tuple[str, ...]], tuple[str, ...]], far: bool = False
) -> tuple[Clip, ...]:
    """Return all films as clips. tags: of the folders that one lies in.  far: its sound may lie in another folder."""
    films = _films(files)
    if not films:
        raise OptionError(f"{folder}: there is no film in it ({', '.join(FILMS)}) and no picture ({', '.join(STILLS)})")
    sounds = sorted((path for path in files if path.suffix.lower() in SOUNDS), key=_rank)
    beside = {path.with_suffix(""): path for path in sounds}
    if far:
        num, only = Counter(path.stem for path in (*films, *sounds)), {path.stem: path for path in sounds}
        pairs = (film for film in films if film.stem in only and num[film.stem] == 2)
        beside = {film.with_suffix(""): only[film.stem] for film in pairs} | beside
    truths = _truths(files, films)
    return tuple(
        Clip(
            name=name,
            film=film,
            speech=beside.get(film.with_suffix("")),
            truth=truths.get(film.with_suffix("")),
            tags=tags(film.relative_to(folder).parts[:-1]),
        )
        for name, film in zip(clip_names(folder, films), films, strict=True)
    )


def _rank(sound: Path) -> int:
    """Return where a sound stands among others of its stem; the last is taken."""
    return -SOUNDS.index(sound.suffix.lower())


def _truths(files: Sequence[Path], films: Sequence[Path]) -> dict[Path, Path]:
    """Return truths by their films' paths without suffix. Raises OptionError for one of no film."""
    places = {film.with_suffix("") for film in films}
    truths = {}
    for path in files:
        if path.suffix.lower() in FILMS + STILLS and path.stem.endswith(TRUTH):
            place = path.with_name(path.stem.removesuffix(TRUTH))
            if place not in places:
                raise OptionError(
                    f"{path}: is the truth of a film {place.name} that is not beside it; rename one of them"
                )
            truths[place] = path
    return truths


def _hdtf(folder: Path, film: Path) -> tuple[str, str] | None:
    """Return a film's part of HDTF and who speaks in it, None where its name says neither."""
    found = _HDTF.match(film.stem)
    if found is None:
        return None
    folders = (each.upper() for each in film.relative_to(folder).parts[:-1])
    part = found["part"] or next((each for each in folders if each in PARTS), None)
    who = found["who"].lower()
    if part is None:
        return None
    return part.upper(), who if re.fullmatch(r"radio\d*", who) else who.rstrip("0123456789")


def _recognised(folder: Path, files: Sequence[Path]) -> str:
    films = _films(files)
    if sum(_hdtf(folder, film) is not None for film in films) > len(films) / 2:
        return "hdtf"
    words = {_word(part) for film in films for part in film.relative_to(folder).parts[:-1]}
    name = re.sub(r"[^a-z]", "", folder.resolve().name.lower())
    if words & ({*REALWORLD} - {*AIGC}) or "realworld" in name:
        return "realworld-lipsync"
    if words & ({*AIGC} - {*REALWORLD}) or "aigc" in name:
        return "aigc-lipsync"
    return "plain" if read_manifest(folder) is None else "aigc-lipsync"  # both read a manifest alike


def _categories(folders: Sequence[str], kinds: Sequence[str]) -> tuple[str, ...]:
    words = [word for word in map(_word, folders) if word not in HOLDERS]
    at = next((i for i, word in enumerate(words) if word in kinds), None)
    if tuple(kinds) != REALWORLD or at is None or at + 1 == len(words):
        return tuple(dict.fromkeys(words))
    return (*words[:at], *(f"{words[at]}:{word}" for word in words[at + 1 :]))


def _word(text: str) -> str:
    word = re.sub(r"[\s_]+", "-", text.strip().lower())
    return SPELLINGS.get(word, word)


def _listed(folder: Path, files: Sequence[Path], table: Manifest) -> tuple[Clip, ...]:
    clips = []
    for number, row in enumerate(table.rows, 1):
        where = f"{table.path}, row {number}"
        named = {what: cell(row, what) for what in ("film", "speech", "truth")}
        if not named["film"]:
            raise OptionError(f"{where}: names no film; mend it, or import as plain")
        found = {
            what: _named(folder, files, text, SUFFIXES[what], f"{where}: names the {what}") if text else None
            for what, text in named.items()
        }
        film = found["film"]
        assert film is not None
        name = re.sub(r"[/\\]+", "-", cell(row, "name")).lstrip(".") or clip_names(folder, [film])[0]
        clips.append(Clip(name=name, film=film, speech=found["speech"], truth=found["truth"], tags=_tags(row)))
    names = _unique([clip.name for clip in clips])
    return tuple(replace(clip, name=name) for clip, name in zip(clips, names, strict=True))


def _named(folder: Path, files: Sequence[Path], text: str, suffixes: Sequence[str], what: str) -> Path:
    """Return the file that a table names: from the folder, or the only one below whose path ends so, suffix or not."""
    plain = PurePosixPath(text.replace("\\", "/"))
    path = folder / plain
    if path.is_file():
        return path
    ends = plain.parts
    found = [
        file
        for file in files
        if file.suffix.lower() in suffixes
        and ends in (file.parts[-len(ends) :], file.with_suffix("").parts[-len(ends) :])
    ]
    if len(found) != 1:
        how = "which is not there" if not found else f"which may be any of {len(found)} files"
        raise OptionError(f"{what} {text}, {how} in {folder}; mend the row, or put the file there")
    return found[0]


def _tags(row: dict[str, Any]) -> tuple[str, ...]:
    tags = []
    for column, value in row.items():
        kind = SPELLINGS.get(column, column)
        for word in value if isinstance(value, list) else re.split(r"[,;|]", "" if value is None else str(value)):
            tag = _word(str(word))
            if kind in (*AIGC, *REALWORLD) and tag not in NO:
                tags.append(kind if tag in YES else f"{kind}:{tag}")
            elif column in TAG_COLUMNS and tag:
                tags.append(tag)
    return tuple(dict.fromkeys(tags))


def _unique(names: list[str]) -> list[str]:
    """Number the names that were there before."""
    taken: set[str] = set()
    for at, name in enumerate(names):
        number, own = 1, name
        while own in taken:
            number += 1
            own = f"{name}-{number}"
        taken.add(own)
        names[at] = own
    return names
