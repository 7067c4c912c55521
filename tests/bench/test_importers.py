"""Folders become suites: by names, by folders, by manifests. Most films here are empty files, since none is decoded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from films import make_film, make_sound, make_still, steady
from unisync.bench.importers import Layout, import_folder, lend_speech
from unisync.bench.suite import OURS, PROTOCOLS, Clip, Suite
from unisync.errors import OptionError


def laid(folder: Path, *names: str) -> Path:
    """Put empty files into a folder."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def tags_by_name(suite: Suite) -> dict[str, tuple[str, ...]]:
    return {clip.name: clip.tags for clip in suite.clips}


def test_a_plain_folder(tmp_path: Path) -> None:
    folder = laid(
        tmp_path / "my films",
        *("a.mp4", "a.wav", "a.mp3", "a.truth.mp4", "b/c/d.MKV", "b/c/d.truth.mov", "b/e.jpg"),
        *("notes.txt", "music.mp3", ".hidden.mp4", ".cache/x.mp4"),
    )
    suite = import_folder(folder)
    assert (suite.name, suite.methods, suite.protocols) == ("my films", OURS, PROTOCOLS)
    assert suite.clips == (
        Clip(name="a", film=folder / "a.mp4", speech=folder / "a.wav", truth=folder / "a.truth.mp4"),
        Clip(name="b-c-d", film=folder / "b/c/d.MKV", truth=folder / "b/c/d.truth.mov", tags=("b", "c")),
        Clip(name="b-e", film=folder / "b/e.jpg", tags=("b",)),
    )


def test_names_are_unique(tmp_path: Path) -> None:
    folder = laid(tmp_path, "a.mp4", "a.mkv", "s/t.mp4", "s-t.mp4", "u.mp4", "u.MP4")
    names = [clip.name for clip in import_folder(folder, "plain").clips]
    assert names == ["a-mkv", "a-mp4", "s-t-mp4", "s-t-mp4-2", "u-mp4", "u-mp4-2"]


def test_stills_and_silent_films_borrow_and_do_not_lend(tmp_path: Path) -> None:
    make_film(tmp_path / "a.mp4", steady(25, 0.2))
    make_film(tmp_path / "b.mp4", steady(25, 0.2), sound=False)
    make_still(tmp_path / "c.png")
    make_film(tmp_path / "d.mp4", steady(25, 0.2))
    make_sound(tmp_path / "d.flac", [0.1], 0.2)
    suite = import_folder(tmp_path)
    spoken = {clip.name: suite.speech_of(clip, "cross") for clip in suite.clips}
    films = {name: tmp_path / f"{name}.mp4" for name in "abd"}
    assert spoken == {"a": films["d"], "b": films["d"], "c": films["d"], "d": tmp_path / "d.flac"}
    assert [clip.speech for clip in suite.clips[1:3]] == [films["d"], None]  # the suite's own choice is good for c


def test_only_those_are_asked_that_may_lend() -> None:
    asked: list[str] = []

    def speaks(path: Path) -> bool:
        asked.append(path.name)
        return path.name != "silent.mp4"

    spoken = Clip(name="spoken", film=Path("a.mp4"), speech=Path("a.wav"))
    wanting = [Clip(name=name, film=Path("b.mp4")) for name in ("one", "two")]
    clips = (spoken, *wanting, Clip(name="x", film=Path("silent.mp4"), speech=Path("x.wav")))
    given = lend_speech(clips, speaks)
    assert asked == ["silent.mp4", "a.mp4"]
    assert [clip.speech for clip in given] == [Path("a.wav"), Path("a.mp4"), Path("a.mp4"), Path("x.wav")]


def test_hdtf(tmp_path: Path) -> None:
    names = (
        *("RD_Radio11_000", "RD_Radio12_000", "WDA_AmyKlobuchar0_000", "WDA_AmyKlobuchar0_001"),
        *("WDA_AmyKlobuchar1_000", "WRA_LucilleRoybal-Allard_0_cfr25"),
    )
    laid(tmp_path, *(f"clips/{name}.mp4" for name in names), "_videos_raw/RD_Radio11.mp4")
    laid(tmp_path, "audio/RD_Radio12_000.wav")
    suite = import_folder(tmp_path)
    assert [clip.film.stem for clip in suite.clips] == list(names)
    assert [clip.tags for clip in suite.clips] == [("RD",), ("RD",), ("WDA",), ("WDA",), ("WDA",), ("WRA",)]
    spoken = [clip.speech.stem for clip in suite.clips if clip.speech]
    assert spoken == [names[1], names[2], names[5], names[5], names[5], names[0]]
    assert suite.clips[0].speech == tmp_path / "audio/RD_Radio12_000.wav"


def test_hdtf_in_folders_of_its_parts(tmp_path: Path) -> None:
    laid(tmp_path, "RD/Radio1_0.mp4", "WRA/JohnKasich0_1.mp4", "WRA/JohnKasich3_0.mp4")
    clips = import_folder(tmp_path).clips
    assert [(clip.name, clip.tags, clip.speech) for clip in clips] == [
        ("RD-Radio1_0", ("RD",), tmp_path / "WRA/JohnKasich0_1.mp4"),
        ("WRA-JohnKasich0_1", ("WRA",), tmp_path / "RD/Radio1_0.mp4"),
        ("WRA-JohnKasich3_0", ("WRA",), tmp_path / "RD/Radio1_0.mp4"),
    ]


def test_hdtf_of_one_person(tmp_path: Path) -> None:
    laid(tmp_path, "WRA_JohnKasich0_000.mp4", "WRA_JohnKasich3_000.mp4")
    assert [clip.speech for clip in import_folder(tmp_path).clips] == [None, None]


def test_sounds_elsewhere_must_be_the_only_ones(tmp_path: Path) -> None:
    laid(tmp_path, "occlusion/1.mp4", "profile/1.mp4", "audio/1.wav", "profile/2.mp4", "audio/2.wav", "audio/2.mp3")
    laid(tmp_path, "profile/3.mp4", "profile/3.mp3", "audio/3.wav")
    speech = [clip.speech for clip in import_folder(tmp_path).clips]
    assert speech == [None, None, None, tmp_path / "profile/3.mp3"]
    assert import_folder(tmp_path, "plain").clips[2].speech is None


def test_categories_are_folders(tmp_path: Path) -> None:
    aigc = laid(tmp_path / "a", "videos/Stylized/animal/1.mp4", "videos/occlusion/2.mp4", "audios/2.wav", "3.mp4")
    suite = import_folder(aigc)
    assert list(tags_by_name(suite).values()) == [(), ("stylised", "animal"), ("occlusion",)]
    assert [clip.speech for clip in suite.clips] == [None, None, aigc / "audios/2.wav"]
    real = laid(tmp_path / "r", "scene/Stage performance/1.mp4", "lighting/dark/2.mp4", "character/3.mp4")
    assert list(tags_by_name(import_folder(real)).values()) == [
        ("character",),
        ("light:dark",),
        ("scene:stage-performance",),
    ]
    assert import_folder(real, "plain").clips[1].tags == ("lighting", "dark")


ROWS = [
    {
        "Video Path": "v/1.mp4",
        "audio": "s/1.wav",
        "GT": "1.truth.mp4",
        "category": "Stylized; occlusion",
        "id": "one/1",
    },
    {"Video Path": "2", "audio": "", "GT": "", "category": "profile", "id": ""},
    {"Video Path": "deep/2.mp4", "audio": "1.wav", "GT": None, "category": "", "id": ""},
]


def written(folder: Path, kind: str) -> None:
    """Write ROWS as a manifest of a kind."""
    head = list(ROWS[0])
    texts = {
        "csv": "\n".join([",".join(head), *(",".join(row[name] or "" for name in head) for row in ROWS)]),
        "tsv": "\n".join(["\t".join(head), *("\t".join(row[name] or "" for name in head) for row in ROWS)]),
        "json": json.dumps({"version": 1, "clips": ROWS}),
        "jsonl": "\n".join(json.dumps(row) for row in ROWS) + "\n\n",
    }
    (folder / f"list.{kind}").write_text(texts[kind], "utf-8-sig" if kind == "csv" else "utf-8")


@pytest.mark.parametrize("kind", ["csv", "tsv", "json", "jsonl"])
@pytest.mark.parametrize("layout", ["auto", "aigc-lipsync", "realworld-lipsync"])
def test_manifests(tmp_path: Path, kind: str, layout: Layout) -> None:
    laid(tmp_path, "v/1.mp4", "s/1.wav", "1.truth.mp4", "v/deep/2.mp4", "v/not listed.mp4", "about.json")
    written(tmp_path, kind)
    film = tmp_path / "v/deep/2.mp4"
    assert import_folder(tmp_path, layout).clips == (
        Clip(
            name="one-1",
            film=tmp_path / "v/1.mp4",
            speech=tmp_path / "s/1.wav",
            truth=tmp_path / "1.truth.mp4",
            tags=("stylised", "occlusion"),
        ),
        Clip(name="v-deep-2", film=film, tags=("profile",)),
        Clip(name="v-deep-2-2", film=film, speech=tmp_path / "s/1.wav"),
    )


def test_manifests_keyed_by_films_with_dimensions_as_columns(tmp_path: Path) -> None:
    laid(tmp_path, "1.mp4", "2.mp4")
    rows = {
        "1.mp4": {"scene": "stage", "Lighting": ["spot", "dark"], "character": True, "sound": True},
        "2.mp4": {"scene": "no", "tags": ["Night shot"], "source": "somewhere"},
    }
    (tmp_path / "metadata.json").write_text(json.dumps(rows))
    assert tags_by_name(import_folder(tmp_path)) == {
        "1": ("scene:stage", "light:spot", "light:dark", "character"),
        "2": ("night-shot",),
    }


def test_what_is_called_manifest_goes_first_and_what_looks_like_a_film(tmp_path: Path) -> None:
    laid(tmp_path, "1.mp4", "2.mp4")
    (tmp_path / "a.csv").write_text("video\n1.mp4\n")
    (tmp_path / "manifest.csv").write_text("source,type,file\nsomebody,light,2.mp4\n")
    assert tags_by_name(import_folder(tmp_path)) == {"2": ("light",)}


def test_a_table_without_films_is_no_manifest(tmp_path: Path) -> None:
    laid(tmp_path, "profile/1.mp4")
    (tmp_path / "scores.csv").write_text("fid,fvd\n1,2\n")
    assert tags_by_name(import_folder(tmp_path, "aigc-lipsync")) == {"profile-1": ("profile",)}


def test_what_cannot_be_imported_is_said(tmp_path: Path) -> None:
    def refused(folder: Path, *words: str, layout: Layout = "auto") -> None:
        with pytest.raises(OptionError) as caught:
            import_folder(folder, layout)
        assert [word for word in words if word not in str(caught.value)] == []

    refused(tmp_path / "nowhere", "nowhere", "no such folder")
    refused(laid(tmp_path, "film.mp4") / "film.mp4", "film.mp4", "not a folder")
    refused(laid(tmp_path / "e", "a.txt", "a.wav"), str(tmp_path / "e"), "no film")
    refused(laid(tmp_path / "h", "me.mp4"), str(tmp_path / "h"), "HDTF", layout="hdtf")
    refused(laid(tmp_path / "t", "a.mp4", "b.truth.mp4"), "b.truth.mp4", "beside")
    with pytest.raises(OptionError, match="did you mean 'hdtf'"):
        import_folder(tmp_path, "hdtff")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("film,audio\na.mp4,\ngone.mp4,\n", ("row 2", "film gone.mp4")),
        ("film,audio\na.mp4,gone.wav\n", ("row 1", "speech gone.wav")),
        ("film,gt\na.mp4,gone.mp4\n", ("row 1", "truth gone.mp4")),
        ("film,gt\ntwice.mp4,\n", ("row 1", "film twice.mp4", "any of 2")),
        ("film,audio\na.mp4,\n,b.wav\n", ("row 2", "no film")),
    ],
)
def test_what_a_manifest_names_must_be_there(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    laid(tmp_path, "a.mp4", "b.wav", "x/twice.mp4", "y/twice.mp4")
    table = tmp_path / "manifest.csv"
    table.write_text(text)
    with pytest.raises(OptionError) as caught:
        import_folder(tmp_path, "aigc-lipsync")
    assert [word for word in (str(table), *words) if word not in str(caught.value)] == []


def test_broken_tables_are_named(tmp_path: Path) -> None:
    laid(tmp_path, "a.mp4")
    (tmp_path / "manifest.json").write_text('[{"film": "a.mp4"')
    with pytest.raises(OptionError, match=r"manifest\.json: is no table"):
        import_folder(tmp_path)
    assert len(import_folder(tmp_path, "plain").clips) == 1
