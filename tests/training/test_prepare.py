"""From a folder of films to a dataset: whatever is in the folder, however often it is stopped."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from faces import frames, lay
from films import click_track, clicks, make_text, make_truncated
from unisync.cli import app
from unisync.demo import demo_speech
from unisync.errors import Cancelled, MediaError, OptionError, UnisyncError
from unisync.media import EncodeOptions, Speech, drawn, write_film
from unisync.metrics.expert import Sync
from unisync.options import PrepareOptions
from unisync.training import films
from unisync.training.canvases import spans_of, thinned
from unisync.training.dataset import read_about, read_rows, read_samples
from unisync.training.prepare import prepare
from unisync.types import Pixels, Plan, Progress, Shot, Sound, Track

NUM, RATE = 50, 30
STILL = PrepareOptions(min_lips=0, min_sharpness=0, min_sync=0, canvas=64, held=0.5, max_seconds=1.0, min_seconds=0.5)
"""For films of a still face that is moved about: its lips do not speak."""


def film(path: Path, zoom: float, step: float, speech: Path | None = None, crf: int = 20) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [lay([(200 + step * i, 170 + 6 * np.sin(i / 4), zoom)]) for i in range(NUM)]
    sound = None if speech is None else Speech(speech)
    write_film(
        frames(pictures, RATE), path, drawn("x", 480, 360, RATE, NUM), sound, EncodeOptions("h264", crf, "ultrafast")
    )
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A talking face, the same encoded again, a small silent one, no face, and things that are no films."""
    folder = tmp_path_factory.mktemp("films")
    film(folder / "a b" / "talk.mp4", 1.4, 1.0, demo_speech())
    film(folder / "talk again.mkv", 1.4, 1.0, demo_speech(), crf=34)
    film(folder / "small.mp4", 0.5, 1.5)
    write_film(frames([lay([])] * 12), folder / "empty.mp4", drawn("x", 480, 360, 25, 12), None)
    make_text(folder / "text.mov")
    make_truncated(folder / "half.mp4", folder / "small.mp4", 0.02)
    (folder / "readme.txt").write_text("not a film")
    return folder


@pytest.fixture(scope="module")
def dataset(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dataset") / "set"
    seen: list[Progress] = []
    made = prepare(folder, out, STILL, seen.append)
    assert [(p.stage, p.done, p.total) for p in seen] == [("films", i, 6) for i in range(1, 7)]
    assert (made.films, made.candidates, made.samples) == (6, 6, 2)
    assert {name: num for name, num in made.dropped.items() if num} == {"face": 2, "alike": 2}
    assert set(made.unreadable) == {"text.mov", "half.mp4"}
    assert "half.mp4" in made.unreadable["half.mp4"]
    return out


def contents(out: Path) -> dict[str, bytes]:
    """What a dataset is, whatever happened on the way."""
    names = ("samples.jsonl", "dataset.json", "options.json", "summary.html", "sheet.jpg")
    paths = [*(out / name for name in names), *out.glob("shards-*/*")]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in paths}


def test_samples_are_the_films_faces_with_their_sound(dataset: Path) -> None:
    one, two = read_samples(dataset)
    truth, rate = soundfile.read(demo_speech(), dtype="float32")
    assert one.figures["film"] == "a b/talk.mp4" and one.figures["start"] == 0
    assert two.figures["start"] == pytest.approx(0.833, abs=0.04)
    for sample in (one, two):
        canvases, start = sample.canvases, float(sample.figures["start"])
        num = len(canvases.pixels)
        assert canvases.pixels.shape == (num, 64, 64, 3) and abs(num - 21) <= 1
        eyes = canvases.landmarks[:, [33, 133, 362, 263]].mean(1)
        assert np.allclose(eyes, (31.5, 0.12 * 64 - 0.5), atol=2.5)
        assert abs(len(canvases.samples) / 16000 - float(canvases.seconds[-1]) - 0.04) < 0.001
        heard = np.abs(canvases.samples[:12800].astype(float)).reshape(-1, 800).mean(1)
        spoken = np.abs(truth[round(start * rate) :][: round(0.8 * rate)]).reshape(len(heard), -1).mean(1)
        assert np.corrcoef(heard, spoken)[0, 1] > 0.9
    assert one.canvases.speaker == two.canvases.speaker  # one film, one part, one face
    assert len({row.part for row in read_rows(dataset)}) == 1


def test_the_summary_says_what_was_dropped(dataset: Path) -> None:
    page = (dataset / "summary.html").read_text("utf-8")
    assert "<td>face<td>below 64<td>2" in page and "<td>alike<td>above 0.9<td>2" in page
    assert "<td>sync<td>off<td>0" in page and "text.mov" in page and page.count("<svg") >= 10
    assert (dataset / "sheet.jpg").stat().st_size > 5000


KILLED = """
import os, signal, sys
from pathlib import Path
import unisync.training.{module} as module
from test_prepare import STILL, prepare
real, count = module.{name}, [0]
def call(*args):
    count[0] += 1
    if count[0] == {at}:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args)
if __name__ == "__main__":
    module.{name} = call
    prepare(Path(sys.argv[1]), Path(sys.argv[2]), STILL)
"""


@pytest.mark.parametrize(
    ("module", "name", "at"),
    [("films", "append", 4), ("films", "write_whole", 3), ("dataset", "append", 2)],
)
def test_what_was_killed_goes_on_to_the_same_dataset(
    folder: Path, dataset: Path, tmp_path: Path, module: str, name: str, at: int
) -> None:
    out = tmp_path / "set"
    code = f"import sys; sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[1])!r}]\n"
    code += KILLED.format(module=module, name=name, at=at)
    done = subprocess.run([sys.executable, "-c", code, folder, out], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    with pytest.raises(MediaError, match="no finished dataset"):
        read_rows(out)
    prepare(folder, out, STILL)
    assert contents(out) == contents(dataset)
    left = [path for path in out.rglob("*") if path.name.startswith(".")]
    assert not left and not list((out / "films").glob("*.tar"))


def test_many_workers_make_the_same_dataset(folder: Path, dataset: Path, tmp_path: Path) -> None:
    prepare(folder, tmp_path / "set", PrepareOptions.from_dict({**STILL.to_dict(), "workers": 2}))
    assert contents(tmp_path / "set") == contents(dataset)


def test_a_dataset_grows_and_its_options_stay(folder: Path, tmp_path: Path) -> None:
    some, out = tmp_path / "films", tmp_path / "set"
    some.mkdir()
    (some / "talk again.mkv").symlink_to(folder / "talk again.mkv")
    assert prepare(some, out, STILL).samples == 2
    before = [row.key for row in read_rows(out)]
    (some / "a talk.mp4").symlink_to(folder / "a b" / "talk.mp4")
    grown = prepare(some, out, STILL)
    assert (grown.films, grown.samples, grown.dropped["alike"]) == (2, 2, 2)  # what is there goes before what comes
    assert [row.key for row in read_rows(out)] == before and len(list(read_samples(out))) == 2
    with pytest.raises(OptionError, match=r"was begun with canvas=64; give the same, or choose another folder"):
        prepare(some, out, PrepareOptions.from_dict({**STILL.to_dict(), "canvas": 96}))


def test_who_progress_stops_leaves_no_dataset_and_keeps_the_work(folder: Path, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.done == 2:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        prepare(folder, tmp_path / "set", STILL, stop)
    assert len(list((tmp_path / "set" / "films").glob("*.json"))) == 2
    with pytest.raises(MediaError):
        read_about(tmp_path / "set")


def test_clicks_stay_at_their_moments(tmp_path: Path) -> None:
    sound = click_track([0.2, 1.1, 1.4], NUM / RATE)[0]
    soundfile.write(tmp_path / "clicks.wav", sound, 48000)
    film(tmp_path / "films" / "clicks.mkv", 1.4, 1.0, tmp_path / "clicks.wav")
    prepare(tmp_path / "films", tmp_path / "set", PrepareOptions.from_dict({**STILL.to_dict(), "min_speech": 0}))
    found = []
    for sample in read_samples(tmp_path / "set"):
        heard = sample.canvases.samples.astype(np.float32)
        found += [at / 16000 + float(sample.figures["start"]) for at in clicks(heard, 16000)]
    assert np.allclose(found, [0.2, 1.1, 1.4], atol=0.002)


def test_given_speakers_name_the_samples(folder: Path, tmp_path: Path) -> None:
    some = tmp_path / "films"
    some.mkdir()
    (some / "talk.mp4").symlink_to(folder / "a b" / "talk.mp4")
    names = tmp_path / "names.jsonl"
    names.write_text('{"file": "talk.mp4", "speaker": "ann"}\n')
    options = PrepareOptions.from_dict({**STILL.to_dict(), "speakers": str(names)})
    prepare(some, tmp_path / "set", options)
    assert {row.speaker for row in read_rows(tmp_path / "set")} == {"ann"}
    names.write_text("ann\n")
    with pytest.raises(OptionError, match="is not JSON lines"):
        prepare(some, tmp_path / "set", options)


def test_lips_that_do_not_move_are_not_the_speaker(folder: Path, tmp_path: Path) -> None:
    some = tmp_path / "films"
    some.mkdir()
    (some / "talk.mp4").symlink_to(folder / "a b" / "talk.mp4")
    out = tmp_path / "set"
    done = CliRunner().invoke(app, ["prepare", str(some), "-o", str(out), "--canvas", "64", "--min-sharpness", "0"])
    assert done.exit_code == 0, done.stderr
    assert "1 dropped by lips" in done.stdout and "0 of 1 samples" in done.stdout
    assert list(read_samples(out)) == [] and (out / "summary.html").exists()


def test_folders_without_films_are_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(UnisyncError, match=str(folder)):
            prepare(folder, tmp_path / "set", STILL)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    "rate", [Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(50), Fraction(60)]
)
def test_frames_are_thinned_to_25_a_second_by_their_own_moments(rate: Fraction) -> None:
    seconds = np.array([float(3 + i / rate) for i in range(round(4 * rate))])
    kept = thinned(seconds)
    assert len(np.unique(kept)) == len(kept) and min(len(seconds), 100) <= len(kept) <= 101
    ticks = 3 + np.arange(99) / 25
    nearest = np.abs(ticks[:, None] - seconds[kept]).min(1)
    assert nearest.max() <= 0.5 / float(rate) + 1e-9


def test_uneven_moments_and_single_frames_are_thinned() -> None:
    assert thinned(np.array([1.0])).tolist() == [0]
    assert thinned(np.array([0, 0.5, 0.51, 0.52, 1.0])).tolist() == [0, 1, 3, 4]


def test_long_tracks_are_cut_evenly() -> None:
    num = 575
    ones = np.ones(num, np.float32)
    track = Track("face1", 0, num, np.zeros((num, 468, 2), np.float32), np.zeros((num, 4), np.float32), ones, ones)
    plan = Plan("film.mp4", 64, 64, (Shot(0, num, (track,)),), tuple(Fraction(i, 25) for i in range(num)))
    spans = spans_of(plan, 10)
    assert [span.start for span in spans] == [0, *(span.stop for span in spans[:-1])] and spans[-1].stop == num
    assert len(spans) == 3 and max(len(s.frames) for s in spans) - min(len(s.frames) for s in spans) <= 2
    assert json.loads(json.dumps([list(span.frames) for span in spans]))[0][:3] == [0, 1, 2]


@pytest.mark.parametrize(("confidence", "samples", "offset"), [(0.3, 1, 3), (0.3, 1, 1), (0.1, 0, 3)])
def test_sound_that_comes_late_is_moved_by_what_the_expert_says(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, confidence: float, samples: int, offset: int
) -> None:
    def says(pixels: Pixels, seconds: np.ndarray, sound: Sound) -> Sync:
        assert len(pixels) == len(seconds)
        assert seconds[0] == 0 and sound.seconds >= seconds[-1]
        return Sync(offset=offset, distance=0.5, confidence=confidence)

    monkeypatch.setattr(films, "expert_weights", lambda: demo_speech())  # there is a file
    monkeypatch.setattr(films, "measure_sync", says)
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "talk.mp4").symlink_to(folder / "a b" / "talk.mp4")
    options = PrepareOptions.from_dict({**STILL.to_dict(), "min_sync": 0.2, "max_seconds": 10.0})
    made = prepare(tmp_path / "films", tmp_path / "set", options)
    assert (made.samples, made.dropped["sync"]) == (samples, 1 - samples)
    for sample in read_samples(tmp_path / "set"):
        assert (sample.figures["offset"], sample.figures["sync"]) == (offset, 0.3)
        late = 0.12 if offset == 3 else 0.0  # one frame lies within the expert's error
        truth = films.read_sound(folder / "a b" / "talk.mp4").cut(late, late + len(sample.canvases.samples) / 16000)
        assert np.allclose(sample.canvases.samples / 32767, truth.samples, atol=1e-4)
