"""Several speeches for several faces of one film: who says what, what is heard, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from faces import frames, lay
from unisync import production
from unisync.cli import app
from unisync.dubbing import dub_film
from unisync.errors import FaceError, OptionError
from unisync.media import EncodeOptions, drawn, probe, read_frames, read_sound, write_film
from unisync.media.mix import write_mix
from unisync.methods.base import Keep, Performer, Spec, anew
from unisync.options import DubOptions
from unisync.scanning import save_plan, scan_film
from unisync.types import Pixels, Sound, Track, Window

NUM = 10


class Loud:
    """A method that paints a canvas as bright as its speech was loud when it listened to it."""

    def __init__(self, options: DubOptions) -> None:
        self.spec = Spec(canvas=64, length=6, overlap=2, composite="none")
        self.heard: dict[int, float] = {}

    def begin(self, track: Track, keep: Keep = anew) -> Performer:
        return self

    def listen(self, sound: Sound) -> None:
        self.heard[id(sound)] = float(np.abs(sound.samples).max())

    def render(self, windows: Iterable[Window]) -> Iterator[tuple[int, Pixels]]:
        for window in windows:
            yield window.start, np.full_like(window.pixels, round(250 * self.heard[id(window.sound)]))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a film of two faces, its plan, and two speeches of one length at different rates."""
    folder = tmp_path_factory.mktemp("place")
    pictures = [lay([(130 + i, 170, 1.2), (350, 180 - i, 1.0)]) for i in range(NUM)]
    film = folder / "film.mkv"
    write_film(frames(pictures), film, drawn("x", 480, 360, 25, NUM), None, EncodeOptions("ffv1"))
    save_plan(scan_film(film), folder / "film.plan")
    times = np.arange(int(NUM / 25 * 48000)) / 48000
    soundfile.write(folder / "low.wav", 0.3 * np.sin(2 * np.pi * 300 * times), 48000)
    times = times[::2]
    soundfile.write(folder / "high.flac", np.stack([0.6 * np.sin(2 * np.pi * 2000 * times)] * 2, 1), 24000)
    return folder


def options(place: Path, **changes: object) -> DubOptions:
    return DubOptions.from_dict({"method": "echo", "plan": str(place / "film.plan"), "codec": "ffv1", **changes})


def test_each_face_follows_its_own_speech_and_all_are_heard(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(production, "load", lambda door, name: Loud)
    low, high, out = place / "low.wav", place / "high.flac", tmp_path / "out.mkv"
    casts = ((None, {"face1": low, "face2": high}), (high, {"face1": low}), (low, {"face2": high}))
    for speech, own in casts:
        report = dub_film(place / "film.mkv", speech, out, options(place, face="all"), None, own)
        assert [track["speech"] for track in report.tracks] == [str(low), str(high)]
        painted = next(read_frames(probe(out), 5, 6)).pixels
        assert abs(int(painted[190, 135].mean()) - 75) < 25 and abs(int(painted[190, 350].mean()) - 150) < 25
        samples = read_sound(out).samples
        heard = np.abs(np.fft.rfft(samples))
        loud = {round(int(i) / len(samples) * 16000, -2): heard[i] for i in np.argsort(heard)[-2:]}
        assert sorted(loud) == [300, 2000]
        assert loud[2000] / loud[300] == pytest.approx(2, rel=0.05)


def test_one_speech_for_two_faces_is_copied_and_sounds_once(place: Path, tmp_path: Path) -> None:
    low, outs = place / "low.wav", [tmp_path / "one.mkv", tmp_path / "two.mkv"]
    dub_film(place / "film.mkv", low, outs[0], options(place, face="all"))
    dub_film(place / "film.mkv", None, outs[1], options(place), None, {"face1": low, "face2": low})
    assert outs[0].read_bytes() == outs[1].read_bytes()


def test_a_sum_that_would_clip_is_quieter_as_a_whole(tmp_path: Path) -> None:
    times = np.arange(8000) / 16000
    for name, samples in (
        ("a", 0.9 * np.sin(2 * np.pi * 440 * times)),
        ("b", 0.9 * np.sin(2 * np.pi * 440 * times[:4000])),
    ):
        soundfile.write(tmp_path / f"{name}.wav", samples, 16000, "FLOAT")
    gain = write_mix([tmp_path / "a.wav", tmp_path / "b.wav"], tmp_path / "mix.wav", 9)
    mixed, rate = soundfile.read(tmp_path / "mix.wav")
    assert (rate, len(mixed)) == (16000, 8000)
    assert gain == pytest.approx(1 / 1.8, rel=1e-3)
    assert np.abs(mixed).max() == pytest.approx(1, abs=1e-4)
    assert np.allclose(mixed[4000:], gain * 0.9 * np.sin(2 * np.pi * 440 * times[4000:]), atol=1e-6)
    gain = write_mix([tmp_path / "b.wav"], tmp_path / "mix.wav", 0.1)
    assert gain == 1 and len(soundfile.read(tmp_path / "mix.wav")[0]) == 1600


def test_a_shorter_speech_ends_in_silence_and_the_longest_rules_the_film(place: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.wav"
    soundfile.write(short, np.full(1600, 0.1), 16000)
    own = {"face1": short, "face2": place / "low.wav"}
    report = dub_film(place / "film.mkv", None, tmp_path / "out.mkv", options(place, when_shorter="cut"), None, own)
    assert report.frames == NUM and report.warnings == []


def test_bad_casts_are_refused(place: Path, tmp_path: Path) -> None:
    film, low, high, out = place / "film.mkv", place / "low.wav", place / "high.flac", tmp_path / "out.mkv"
    given = options(place)
    with pytest.raises(FaceError, match="no face named 'face7'"):
        dub_film(film, low, out, given, None, {"face7": high})
    with pytest.raises(OptionError, match=r"face1 is to speak both .*low\.wav and .*high\.flac"):
        dub_film(film, None, out, given, None, {"face1": low, "130,170@0.1": high})
    with pytest.raises(OptionError, match="has no face left"):
        dub_film(film, low, out, given, None, {"face1": high})
    with pytest.raises(OptionError, match="nothing is said"):
        dub_film(film, None, out, given)
    assert not list(tmp_path.iterdir())


def test_the_command_line_casts_and_tells_what_it_would_do(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    words = ["dub", str(place / "film.mkv"), "-o", str(out), "--method", "echo", "--plan", str(place / "film.plan")]
    cast = ["--speak", f"face2={place / 'low.wav'}", "--speak", f"face1={place / 'high.flac'}"]
    told = CliRunner().invoke(app, [*words, *cast, "--dry-run"])
    assert told.exit_code == 0 and not out.exists()
    about = json.loads(told.stdout)
    assert (about["frames"], about["painted_frames"], about["windows"]) == (NUM, 2 * NUM, 4)
    assert [Path(track["speech"]).name for track in about["tracks"]] == ["high.flac", "low.wav"]
    assert CliRunner().invoke(app, [*words, *cast]).exit_code == 0 and out.exists()
    for bad, said in (("face1", "NAME=FILE"), (f"face2={place / 'high.flac'}", "every face once")):
        done = CliRunner().invoke(app, [*words, *cast, "--speak", bad])
        assert done.exit_code == 2 and said in done.stderr and done.stderr.count("\n") == 1
