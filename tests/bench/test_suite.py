"""Suites are read, written and refused as they should be."""

from __future__ import annotations

from pathlib import Path

import pytest

from unisync.bench.suite import OURS, Clip, Entrant, Suite, read_suite, write_suite
from unisync.errors import OptionError
from unisync.registry import names

TEXT = """
protocols = ["self", "cross"]
seconds = 4

[[clip]]
film = "films/a.mp4"
tags = ["profile"]

[[clip]]
name = "second"
film = "films/b.mp4"
speech = "/sounds/c.wav"

[[method]]
name = "ours"
kind = "unisync"
options = { steps = 3, face = "all" }

[[method]]
name = "other"
kind = "command"
command = "run 'with words' --face {film} --audio={speech} {out}"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "few.toml"
    path.write_text(text)
    return path


def test_files_are_named_from_the_suites_folder_and_names_from_films(tmp_path: Path) -> None:
    suite = read_suite(written(tmp_path, TEXT))
    assert (suite.name, suite.seconds, suite.protocols) == ("few", 4.0, ("self", "cross"))
    first, second = suite.clips
    assert first == Clip(name="a", film=tmp_path / "films/a.mp4", tags=("profile",))
    assert second.speech == Path("/sounds/c.wav")
    assert suite.methods[0].dub_options().steps == 3
    places = {"film": "f i.mp4", "speech": "s", "out": "o"}
    assert suite.methods[1].words(places) == ["run", "with words", "--face", "f i.mp4", "--audio=s", "o"]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    suite = read_suite(written(tmp_path, TEXT))
    write_suite(suite, tmp_path / "again.toml")
    assert read_suite(tmp_path / "again.toml") == suite
    assert "films/a.mp4" in (tmp_path / "again.toml").read_text()


def test_speech_is_the_next_films_unless_one_is_named(tmp_path: Path) -> None:
    a, b, c = (Clip(name=n, film=tmp_path / n) for n in "abc")
    suite = Suite(name="s", clips=(a, b, c))
    assert suite.methods == OURS
    assert [suite.speech_of(clip, "cross") for clip in (a, b, c)] == [b.film, c.film, a.film]
    assert suite.speech_of(a, "self") == a.film and suite.speech_of(a, "silent") is None
    with pytest.raises(OptionError, match="no speech of another film"):
        Suite(name="s", clips=(a,)).speech_of(a, "cross")
    assert len(list(suite.cells())) == 3 * 3 * len(OURS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a suite needs clips"),
        ("[[clip]]\ntags = []", "clip.film is missing"),
        ('[[clip]]\nfilm = "a.mp4"\nspech = "b"', "did you mean 'speech'"),
        ('protocols = ["crss"]\n[[clip]]\nfilm = "a.mp4"', "did you mean 'cross'"),
        ('[[clip]]\nfilm = "a.mp4"\n[[clip]]\nfilm = "b/a.mp4"', "two clips are called 'a'"),
        ('[[clip]]\nname = "a/b"\nfilm = "a.mp4"', "files are named after it"),
        ('[[clip]]\nfilm = "a.mp4"\n[[method]]\nname = "m"\nkind = "folder"', "folder goes with kind 'folder'"),
        ('[[clip]]\nfilm = "a.mp4"\n[[method]]\nname = "m"\nkind = "command"\ncommand = "x {in}"', "may name {film}"),
        (
            '[[clip]]\nfilm = "a.mp4"\n[[method]]\nname = "m"\nkind = "unisync"\noptions = { stps = 1 }',
            "did you mean 'steps'",
        ),
        ("clip = 3", r"clip must be tables"),
        ("seconds = ", "is not TOML"),
    ],
)
def test_what_is_wrong_is_said_with_the_files_name(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(OptionError, match=said) as raised:
        read_suite(path)
    assert str(path) in str(raised.value)


def test_a_suite_without_clips_takes_films(tmp_path: Path) -> None:
    films = (Clip(name="a", film=tmp_path / "a.mp4"),)
    suite = read_suite(written(tmp_path, 'protocols = ["silent"]'), films)
    assert suite.clips == films and suite.protocols == ("silent",)
    with pytest.raises(OptionError, match="names its own clips"):
        read_suite(written(tmp_path, TEXT), films)


def test_the_ablation_of_both_papers_is_a_suite(tmp_path: Path) -> None:
    path = Path(__file__).parents[2] / "recipes" / "ablation.toml"
    films = (Clip(name="a", film=tmp_path / "a.mp4"),)
    suite = read_suite(path, films)
    options = {method.name: method.dub_options() for method in suite.methods if method.kind == "unisync"}
    assert options["UniSync"].method == "unisync" and options["OmniSync"].method == "omnisync"
    assert {each.tau_inj for each in options.values()} >= {0.0, 0.2, 0.4, 0.6, 0.8, 1.0}
    assert not options["UniSync without PAFS"].pose
    known = set(names("metric"))
    assert set(suite.metrics) <= known


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot be read"):
        read_suite(tmp_path / "none.toml")


def test_a_method_of_two_kinds_is_refused() -> None:
    with pytest.raises(OptionError, match="options go with"):
        Entrant(name="m", kind="copy", options={"steps": 2})
