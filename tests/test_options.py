"""Options: what is taken, what is refused, and with which words."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from unisync.errors import OptionError
from unisync.options import WHEN_LONGER, WHEN_SHORTER, DubOptions, PrepareOptions, ScanOptions, TrainOptions


def test_defaults_are_valid_and_every_option_is_explained() -> None:
    for kind in (DubOptions, PrepareOptions, ScanOptions, TrainOptions):
        assert kind() == kind()
        assert all(item.metadata["help"].endswith(".") for item in fields(kind))


def test_the_same_through_dictionary_json_and_toml(tmp_path: Path) -> None:
    options = DubOptions(face="face2", steps=4, crf=30, codec="hevc", when_longer="bounce")
    assert DubOptions.from_dict(json.loads(json.dumps(options.to_dict()))) == options
    path = tmp_path / "options.toml"
    path.write_text('face = "face2"\nsteps = 4\ncrf = 30\ncodec = "hevc"\nwhen-longer = "bounce"\n')
    assert DubOptions.from_toml(path) == options
    path.write_text('[scan]\nmin_face = 40\n[dub]\nface = "face2"\nsteps=4\ncrf=30\ncodec="hevc"\nwhen_longer="bounce"')
    assert DubOptions.from_toml(path) == options
    assert ScanOptions.from_toml(path) == ScanOptions(min_face=40)


def test_an_unknown_name_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"no option 'strenght'; did you mean 'strength'\?"):
        DubOptions.from_dict({"strenght": 1})
    path = tmp_path / "options.toml"
    path.write_text("sedd = 1")
    with pytest.raises(OptionError, match=r"options\.toml: there is no option 'sedd'; did you mean 'seed'"):
        DubOptions.from_toml(path)


@pytest.mark.parametrize("text", ["steps = ", "dub = 3", None])
def test_a_file_that_is_no_table_is_refused_by_name(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "options.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(OptionError, match=r"options\.toml"):
        DubOptions.from_toml(path)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"steps": -1}, "steps must be from 0 to 1000, not -1"),
        ({"steps": 2.5}, "steps must be a whole number"),
        ({"steps": True}, "steps must be a whole number"),
        ({"strength": -1}, "strength must be from 0"),
        ({"strength": float("nan")}, "strength must be from 0"),
        ({"seed": -1}, "seed must be from 0"),
        ({"start": 0}, "start must be from 0.01"),
        ({"tau_inj": 1.2}, "tau_inj must be from 0 to 1"),
        ({"codec": "h265"}, "codec must be one of h264, hevc.*did you mean 'h264'"),
        ({"source_lips": "open"}, "source_lips must be one of nearest, neutral, as_is"),
        ({"when_longer": "silence"}, "when_longer must be one of cut, loop, bounce, hold, not 'silence'"),
        ({"when_shorter": "bounce"}, "when_shorter must be one of silence, cut, loop, not 'bounce'"),
        ({"when_shorter": "hold"}, "when_shorter must be one of"),
        ({"face": " "}, "face must be a name"),
        ({"face": "10@1"}, "face '10@1' is not x,y@seconds"),
        ({"face": "1,2@nan"}, "is not x,y@seconds"),
        ({"box": "1,2,3"}, "box '1,2,3' is not x,y,w,h@seconds"),
        ({"box": "1,2,30,40@0", "face": "all"}, "face and box"),
        ({"box": "1,2,30,40@0", "plan": "a.plan"}, "box and plan"),
        ({"method": 3}, "method must be text"),
    ],
)
def test_what_makes_no_sense_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        DubOptions(**values)


def test_what_makes_sense_is_taken() -> None:
    for policy in WHEN_LONGER:
        assert DubOptions(when_longer=policy).when_longer == policy
    for shorter in WHEN_SHORTER:
        assert DubOptions(when_shorter=shorter).when_shorter == shorter
    assert DubOptions(face="12.5,7@3", strength=1).strength == 1.0
    assert isinstance(DubOptions(strength=1).strength, float)
    assert DubOptions(box="1,2,30,40").box == "1,2,30,40"
