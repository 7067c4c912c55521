"""Suites carried out on small films: what is made, judged, kept, refused, gone on with and compared."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import soundfile

from faces import frames, lay
from tiny import tiny_weights
from unisync.bench.run import evaluate
from unisync.bench.suite import Clip, Entrant, Suite
from unisync.bench.tables import diff, read_results, sheets, write_tables
from unisync.bench.work import run
from unisync.errors import OptionError
from unisync.media import EncodeOptions, Speech, drawn, probe, read_sound, write_film
from unisync.types import Progress

NUM = 40
METRICS = ("csim", "fid", "flicker", "lip_correlation", "outside_mask", "psnr", "silence_share", "ssim")
SAYS_NO = f"'{sys.executable}' -c 'import sys; sys.exit(\"no GPU here\")' {{film}}"


def talking(folder: Path, name: str, seed: int) -> Path:
    """Write a drifting face with noise for a voice."""
    rng = np.random.default_rng(seed)
    loud = np.repeat(rng.uniform(0.01, 0.2, NUM // 2), 2 * 640)
    soundfile.write(folder / f"{name}.wav", loud * rng.normal(0, 1, NUM * 640), 16000)
    pictures = [lay([(180 + seed * 9 + i, 170, 1.4)]) for i in range(NUM)]
    out, encode = folder / f"{name}.mp4", EncodeOptions("h264", 12, "ultrafast")
    write_film(frames(pictures), out, drawn("x", 480, 360, 25, NUM), Speech(folder / f"{name}.wav"), encode)
    return out


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for seed, name in enumerate(("one", "two")):
        talking(folder, name, seed)
    return folder


@pytest.fixture(scope="module")
def suite(films: Path) -> Suite:
    made = films / "made" / "self"
    made.mkdir(parents=True)
    (made / "one.mp4").write_bytes((films / "one.mp4").read_bytes())
    return Suite(
        name="small",
        clips=(Clip(name="one", film=films / "one.mp4", tags=("a", "b")), Clip(name="two", film=films / "two.mp4")),
        methods=(
            Entrant(name="copy", kind="copy"),
            Entrant(name="elsewhere", kind="folder", folder=films / "made"),
            Entrant(name="broken", kind="command", command=SAYS_NO),
        ),
        protocols=("self", "cross"),
        metrics=METRICS,
    )


@pytest.fixture(scope="module")
def out(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    evaluate(suite, folder)
    return folder


def cell(out: Path, protocol: str, clip: str, method: str) -> dict[str, Any]:
    return next(r for r in read_results(out) if (r["protocol"], r["clip"], r["method"]) == (protocol, clip, method))


def test_the_films_own_picture_is_the_truth_and_leaks_under_a_strange_speech(out: Path) -> None:
    own, strange = cell(out, "self", "one", "copy"), cell(out, "cross", "one", "copy")
    assert own["status"] == strange["status"] == "finished"
    assert own["figures"]["ssim"] > 0.95 and own["figures"]["psnr"] > 35
    assert own["figures"]["flicker"] == pytest.approx(1, abs=0.15)
    assert own["facts"] == {"frames": NUM, "frames_exact": True, "length_exact": True, "faces": 1, "own_sound": True}
    assert (own["speech"], strange["speech"]) == ("one.mp4", "two.mp4")
    assert "ssim" not in strange["figures"] and "leak" in strange["figures"] and "leak" not in own["figures"]
    assert own["figures"]["csim"].startswith("weights missing")
    assert own["tags"] == ["a", "b"]


def test_what_is_heard_in_the_made_film_counts(suite: Suite, out: Path, tmp_path: Path) -> None:
    """Not what its method was given: sound that came late is late."""
    late = replace(suite, clips=suite.clips[:1], methods=(Entrant(name="copy", kind="copy", shift=0.48),))
    evaluate(replace(late, protocols=("self",), metrics=("psnr",)), tmp_path)
    loud, late_loud = (
        np.array(json.loads((folder / "curves/copy/self/one.json").read_text())["loudness"])
        for folder in (out, tmp_path)
    )
    assert np.corrcoef(loud[:-12], late_loud[12:])[0, 1] > 0.9 > 0.5 > np.corrcoef(loud, late_loud)[0, 1]


def test_what_fails_is_a_result_with_its_reason(out: Path) -> None:
    assert cell(out, "self", "two", "elsewhere")["problem"].endswith("holds no film self/two.mp4; put it there")
    assert cell(out, "self", "one", "elsewhere")["figures"]["ssim"] > 0.999
    broken = cell(out, "cross", "two", "broken")
    assert broken["status"] == "failed" and broken["problem"].endswith("ended with 1: no GPU here")
    assert broken["figures"]["generated"] == 0


def test_curves_and_sources_are_there_for_the_report(out: Path) -> None:
    told = json.loads((out / "curves/copy/cross/one.json").read_text())
    assert len(told["seconds"]) == len(told["opening"]) == len(told["source"]) == len(told["spoken"]) == NUM
    assert max(told["loudness"]) == 1
    assert len(probe(out / "films/source/two.mp4")) == NUM
    about = json.loads((out / "about.json").read_text())
    assert about["weights"]["syncnet_v2.model"] == "missing" and len(about["weights"]["mini.safetensors"]) == 64


def test_again_gives_the_same_bytes_and_makes_nothing_anew(suite: Suite, out: Path, tmp_path: Path) -> None:
    before, stamps = (out / "results.jsonl").read_bytes(), {p: p.stat().st_mtime_ns for p in out.rglob("*.mp4")}
    evaluate(suite, out)
    assert (out / "results.jsonl").read_bytes() == before
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*.mp4")} == stamps
    shown: list[Progress] = []
    evaluate(suite, tmp_path / "elsewhere", jobs=2, on_progress=shown.append)
    assert (tmp_path / "elsewhere/results.jsonl").read_bytes() == before
    assert shown[-1].done == shown[-1].total == 12


def test_another_speech_is_made_anew(suite: Suite, films: Path, tmp_path: Path) -> None:
    single = replace(suite, clips=suite.clips[:1], methods=suite.methods[:1], protocols=("cross",), metrics=("ssim",))
    told, heard = [], []
    for name in ("one", "two"):
        spoken = replace(single, clips=(replace(single.clips[0], speech=films / f"{name}.wav"),))
        evaluate(spoken, tmp_path)
        told.append(json.loads((tmp_path / "cells/cross/one/copy.json").read_text())["key"])
        heard.append(read_sound(tmp_path / "films/copy/cross/one.mp4").samples[: NUM * 640])
    assert told[0] != told[1]
    assert abs(np.corrcoef(*heard)[0, 1]) < 0.2


def test_a_shorter_suite_in_the_same_folder_is_made_anew(suite: Suite, tmp_path: Path) -> None:
    single = replace(suite, clips=suite.clips[:1], methods=suite.methods[:1], protocols=("self",), metrics=("psnr",))
    for seconds, num in ((0.0, NUM), (0.8, 20), (0.4, 10)):
        evaluate(replace(single, seconds=seconds), tmp_path)
        assert cell(tmp_path, "self", "one", "copy")["facts"]["frames"] == num
        assert len(probe(tmp_path / "films/source/one.mp4")) == num
        assert len(json.loads((tmp_path / "curves/copy/self/one.json").read_text())["seconds"]) == num


def test_tables_have_a_row_per_method_and_the_published_ones_are_marked(suite: Suite, out: Path) -> None:
    made = sheets(suite, read_results(out))
    own, strange = ({row[0]: dict(zip(s.columns, row, strict=True)) for row in s.rows} for s in made)
    assert own["copy"]["finished"] == "2/2" and own["elsewhere"]["finished"] == "1/2"
    assert own["elsewhere"]["generated ↑"] == "0.50" and own["broken"]["generated ↑"] == "0.00"
    assert own["copy"]["CSIM ↑"] == "– (weights missing: w600k_r50.pth)"
    assert own["copy"]["FID ↓"].startswith("– (weights missing: pt_inception")
    assert own["LatentSync (published)"]["FID ↓"] == "8.518"
    assert not any("published" in name for name in strange)
    few = sheets(replace(suite, only_where_all_finished=True), read_results(out))[0]
    assert few.rows[0][few.columns.index("SSIM ↑")] == "–"  # one method failed every clip
    write_tables(made, suite, out)
    assert (out / "table-self.csv").read_text().splitlines()[1].startswith("copy,2/2,")
    assert r"\begin{tabular}" in (out / "table-cross.tex").read_text()
    assert "small: cross" in (out / "table.md").read_text()


def test_a_difference_is_told_from_noise(out: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    model = next(r for r in rows if r["clip"] == "one" and r["method"] == "copy")
    for name, lift in (("a", 0.0), ("b", 0.1)):
        (tmp_path / name).mkdir()
        lines = []
        for i in range(8):
            figures = {"ssim": 0.5 + i / 20 + lift, "psnr": 30 + lift * (-1) ** i}
            lines.append(json.dumps(model | {"clip": f"c{i}", "figures": figures}))
        (tmp_path / name / "results.jsonl").write_text("\n".join(lines))
    told = {row[2]: row for row in diff(tmp_path / "a", tmp_path / "b").rows}
    assert told["ssim"][5] == "+0.100" and told["ssim"][-2:] == ("8", "yes")
    assert told["psnr"][-1] == "no"
    (tmp_path / "b/results.jsonl").write_text("")
    with pytest.raises(OptionError, match="nothing to compare"):
        diff(tmp_path / "a", tmp_path / "b")
    with pytest.raises(OptionError, match="is it the folder of an evaluation"):
        diff(tmp_path / "none", tmp_path / "b")


def test_our_own_method_is_run_as_a_user_would(films: Path, tmp_path: Path) -> None:
    weights = tiny_weights(tmp_path)
    ours = Entrant(name="ours", kind="unisync", options={"weights": str(weights), "steps": 1, "threads": 1})
    shifted = Entrant(name="late", kind="copy", shift=0.2)
    film = Clip(name="one", film=films / "one.mp4")
    suite = Suite(
        name="s", clips=(film,), methods=(ours, shifted), protocols=("silent",), seconds=0.8, metrics=("silence_share",)
    )
    evaluate(suite, tmp_path / "out")
    own, late = (cell(tmp_path / "out", "silent", "one", name) for name in ("ours", "late"))
    assert own["status"] == late["status"] == "finished", own["problem"]
    assert own["facts"]["frames"] == 20 and isinstance(own["figures"]["silence_share"], float)
    assert own["figures"]["peak_memory_mb"] > 100 and own["figures"]["seconds_per_second"] > 0
    assert own["speech"] == "silence"


def test_a_clip_without_sound_has_no_own_speech(films: Path, tmp_path: Path) -> None:
    mute = tmp_path / "mute.mp4"
    write_film(frames([lay([(180, 170, 1.4)])] * 3), mute, drawn("x", 480, 360, 25, 3), None, EncodeOptions("h264"))
    suite = Suite(name="s", clips=(Clip(name="mute", film=mute),), protocols=("self",), metrics=("ssim",))
    evaluate(suite, tmp_path / "out")
    assert {(r["status"], r["problem"]) for r in read_results(tmp_path / "out")} == {
        ("skipped", "the film has no sound of its own")
    }


def test_memory_is_a_programs_own_and_its_childrens() -> None:
    held = np.ones(60_000_000, np.float32)  # 240 MB, which what it starts must not be blamed for
    sleep = "import time; time.sleep(.7)"
    _, small = run([sys.executable, "-c", sleep], 1)
    _, large = run(["sh", "-c", f"{sys.executable} -c 'x = bytearray(10**8); {sleep}' && true"], 1)
    assert small is not None and large is not None
    assert small < 60 < 100 < large < 200 and held.all()


def test_a_program_that_is_stopped_takes_its_children_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_group: int) -> int:
        while not (tmp_path / "begun").exists():
            time.sleep(0.02)
        raise KeyboardInterrupt

    monkeypatch.setattr("unisync.bench.work.resident", stop)
    with pytest.raises(KeyboardInterrupt):
        run(["sh", "-c", f"(touch {tmp_path}/begun; sleep 1; touch {tmp_path}/lived) & wait"], 1)
    time.sleep(1.3)
    assert not (tmp_path / "lived").exists()


def test_of_a_still_nothing_is_said_that_needs_motion(films: Path, tmp_path: Path) -> None:
    picture = tmp_path / "still.png"
    cv2.imwrite(str(picture), lay([(180, 170, 1.4)])[..., ::-1])
    suite = Suite(
        name="s",
        clips=(Clip(name="still", film=picture, speech=films / "one.wav"),),
        methods=(Entrant(name="copy", kind="copy"),),
        protocols=("cross", "silent"),
        seconds=1.0,
        metrics=("flicker", "jitter", "lip_correlation", "lip_leak", "sharpness", "silence_share"),
    )
    evaluate(suite, tmp_path / "out")
    cross, silent = (cell(tmp_path / "out", protocol, "still", "copy")["figures"] for protocol in ("cross", "silent"))
    assert cross["leak"] == cross["flicker"] == cross["jitter_truth"] == "a still"
    assert silent["silence_share"] == silent["lip_leak"] == "a still"
    assert isinstance(cross["sharpness"], float) and isinstance(cross["jitter"], float)


def test_an_unknown_metric_is_refused_before_any_work(suite: Suite, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no metric 'ssin'"):
        evaluate(replace(suite, metrics=("ssin",)), tmp_path / "out")
    assert not (tmp_path / "out").exists()
