"""Jobs: their folders, their states, and that what was killed goes on and comes to the same film."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from unisync import api, jobs
from unisync.cli import app
from unisync.errors import JobError, OptionError
from unisync.jobs import files, kept, store
from unisync.jobs.run import keep
from unisync.options import DubOptions
from unisync.types import Progress

KILLED = """
import os, signal, sys
from unisync import jobs
from unisync.jobs.events import Events
tell = Events.tell
def fatal(self, event, **facts):
    tell(self, event, **facts)
    if event == "window" and facts["painted"] == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
Events.tell = fatal
jobs.run(sys.argv[1], sys.argv[2])
"""


def told(folder: Path, id_: str, event: str) -> list[dict[str, object]]:
    return [item for item in jobs.events(folder, id_)[0] if item["event"] == event]


@pytest.mark.parametrize("method", ["echo", "unisync", "omnisync"])
def test_a_killed_job_goes_on_and_comes_to_the_same_bytes(
    method: str, film: Path, speech: Path, options: DubOptions, tmp_path: Path
) -> None:
    given = replace(options, method=method)
    whole, cut = (jobs.create(tmp_path, film, speech, None, given) for _ in range(2))
    assert jobs.run(tmp_path, whole.id).state == "done"
    windows = len(told(tmp_path, whole.id, "window"))
    assert windows > 2
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path, cut.id, "2"], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert jobs.read(tmp_path, cut.id).state == "interrupted" and not cut.out.exists()
    (cut.folder / ".unisync-0.part").touch()  # what a kill may leave behind
    num = len(list((cut.folder / "kept").rglob("*.npz")))
    assert num >= 2
    gone_on = jobs.run(tmp_path, cut.id)
    assert (gone_on.state, gone_on.attempts) == ("done", 2)
    last = told(tmp_path, cut.id, "window")[-1]
    assert (last["kept"], last["painted"]) == (num, windows - num)
    assert cut.out.read_bytes() == whole.out.read_bytes()
    assert not (cut.folder / "kept").exists()
    left = {"events.jsonl", "job.json", "lock", "log.txt", "out.mp4", "plan.npz"}
    assert {path.name for path in cut.folder.iterdir()} == left


def test_a_job_is_what_its_file_says(film: Path, speech: Path, tmp_path: Path) -> None:
    given = DubOptions(method="echo", face="all", crf=30)
    job = jobs.create(tmp_path / "jobs", film, None, tmp_path / "o.mkv", given, speeches={"face1": speech}, id="one")
    assert jobs.read(tmp_path / "jobs", "one") == job
    about = json.loads((job.folder / "job.json").read_text())
    assert about["options"] == {"method": "echo", "face": "all", "crf": 30}
    assert (about["state"], about["attempts"], about["speeches"]) == ("queued", 0, {"face1": str(speech)})
    with pytest.raises(JobError, match=r"is a job 'one' in .* already"):
        jobs.create(tmp_path / "jobs", film, speech, id="one")
    done = jobs.run(tmp_path / "jobs", "one")
    assert done.state == "done" and done.report is not None and done.report["faces"] == 1
    assert jobs.read(tmp_path / "jobs", "one") == done
    written = job.out.stat().st_mtime_ns
    assert jobs.run(tmp_path / "jobs", "one") == done and job.out.stat().st_mtime_ns == written
    found, at = jobs.events(tmp_path / "jobs", "one")
    assert [item["event"] for item in found][:: len(found) - 1] == ["running", "done"]
    assert jobs.events(tmp_path / "jobs", "one", at) == ([], at)
    assert list(jobs.follow(tmp_path / "jobs", "one")) == found


def test_what_fails_says_why_and_can_be_tried_again(film: Path, speech: Path, tmp_path: Path) -> None:
    job = jobs.create(tmp_path, film, speech, None, DubOptions(method="echo", face="nobody"))
    failed = jobs.run(tmp_path, job.id)
    assert failed.state == "failed" and "no face named 'nobody'" in str(failed.error)
    with pytest.raises(JobError, match="failed: retry it first"):
        jobs.run(tmp_path, job.id)
    assert jobs.retry(tmp_path, job.id).state == "queued"
    again = jobs.remix(tmp_path, job.id, {"face": "all"})
    assert again.origin == job.id and again.options == DubOptions(method="echo", face="all")
    stages: list[str] = []
    assert jobs.run(tmp_path, again.id, lambda progress: stages.append(progress.stage)).state == "done"
    assert set(stages) == {"scan", "dub"}  # the failed one kept no plan
    more = jobs.remix(tmp_path, again.id, {"crf": 40})
    assert jobs.run(tmp_path, more.id, lambda progress: stages.append(progress.stage)).state == "done"
    assert stages.count("scan") == len([s for s in stages[: stages.index("dub")] if s == "scan"])
    with pytest.raises(OptionError, match="did you mean 'face'"):
        jobs.remix(tmp_path, again.id, {"faec": "all"})


def test_cancelling_waiting_running_and_ended_jobs(film: Path, speech: Path, tmp_path: Path) -> None:
    waiting, running = (jobs.create(tmp_path, film, speech, None, DubOptions(method="echo")) for _ in range(2))
    assert jobs.cancel(tmp_path, waiting.id).state == "cancelled"
    with pytest.raises(JobError, match="is cancelled already"):
        jobs.cancel(tmp_path, waiting.id)

    def stop(progress: Progress) -> None:
        if progress.stage == "dub":
            assert jobs.cancel(tmp_path, running.id).state == "running"

    assert jobs.run(tmp_path, running.id, stop).state == "cancelled"
    assert not running.out.exists() and not (running.folder / "kept").exists()
    assert jobs.retry(tmp_path, running.id).state == "queued"
    assert jobs.run(tmp_path, running.id).state == "done"


STUCK = """
import signal, sys
from unisync import jobs
from unisync.jobs.events import Events
def stuck(self, event, **facts):
    print(event, flush=True)
    signal.pause()
Events.tell = stuck
jobs.run(sys.argv[1], sys.argv[2], alone=sys.argv[3] == "alone")
"""


@pytest.mark.parametrize("serves", ["alone", "others"])
def test_a_stuck_process_is_killed_if_it_serves_nothing_else(
    serves: str, film: Path, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "FORCE_SECONDS", 0.1 if serves == "others" else 30)
    job = jobs.create(tmp_path, film, speech, None, DubOptions(method="echo"))
    words = [sys.executable, "-c", STUCK, tmp_path, job.id, serves]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "running\n"
        assert jobs.read(tmp_path, job.id).state == "running"
        with pytest.raises(JobError, match=f"at work already, in process {process.pid}"):
            jobs.run(tmp_path, job.id)
        state = jobs.cancel(tmp_path, job.id, force=True).state
        assert state == ("cancelled" if serves == "alone" else "running")
        process.kill()
    assert jobs.read(tmp_path, job.id).state == ("cancelled" if serves == "alone" else "interrupted")


def test_only_one_process_runs_a_job_and_nobody_deletes_it_meanwhile(film: Path, speech: Path, tmp_path: Path) -> None:
    job = jobs.create(tmp_path, film, speech, None, DubOptions(method="echo"))
    with files.lock(job.folder):
        for act in (jobs.run, jobs.delete, jobs.retry):
            with pytest.raises(JobError, match="at work"):
                act(tmp_path, job.id)
    out = tmp_path / "elsewhere.mp4"
    other = jobs.create(tmp_path, film, speech, out, DubOptions(method="echo"))
    assert jobs.run(tmp_path, other.id).state == "done"
    jobs.delete(tmp_path, other.id)
    assert out.exists() and [each.id for each in jobs.list_jobs(tmp_path)] == [job.id]
    with pytest.raises(JobError, match="no job"):
        jobs.read(tmp_path, other.id)
    with pytest.raises(JobError, match="no job's id"):
        jobs.read(tmp_path, "../elsewhere")


def test_a_film_that_changed_is_looked_at_again(film: Path, speech: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.mkv"
    own.write_bytes(film.read_bytes())
    job = jobs.create(tmp_path / "jobs", own, speech, None, DubOptions(method="echo"))
    about = jobs.dry_run(tmp_path / "jobs", job.id)
    assert (about["frames"], about["painted_frames"], about["found"]) == (20, 20, ["face1"])
    assert (job.folder / "plan.npz").is_file() and not job.out.exists()
    os.utime(own, ns=(1, 1))
    stages: list[str] = []
    jobs.run(tmp_path / "jobs", job.id, lambda progress: stages.append(progress.stage))
    assert stages[0] == "scan"


def test_windows_of_another_lora_are_not_taken(film: Path, speech: Path, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"one")
    lora = f"b.safetensors,{tmp_path / 'a.safetensors'}:0.5"
    job = jobs.create(tmp_path / "jobs", film, speech, None, DubOptions(method="echo", lora=lora))
    jobs.dry_run(tmp_path / "jobs", job.id)

    def place() -> Path:
        return keep(job, lambda found, painted: None).folder

    before = place()
    assert place() == before
    (tmp_path / "a.safetensors").write_bytes(b"another")
    assert place() != before


def test_a_damaged_window_is_painted_anew(tmp_path: Path) -> None:
    path, pixels = tmp_path / "a.npz", np.random.default_rng(0).integers(0, 255, (6, 16, 16, 3), np.uint8)
    kept._write(path, pixels)
    assert np.array_equal(kept._read(path), pixels)  # type: ignore[arg-type]
    whole = path.read_bytes()
    path.write_bytes(whole[:-300] + bytes(200) + whole[-100:])
    assert kept._read(path) is None
    path.write_bytes(whole[:1000])
    assert kept._read(path) is None


def test_a_job_has_a_process_of_its_own_with_limits(film: Path, speech: Path, tmp_path: Path) -> None:
    small = jobs.create(tmp_path, film, speech, None, DubOptions(method="echo", face="nobody"))
    assert jobs.start(tmp_path, small.id, memory_bytes=4 << 30, threads=1).wait() == 2
    assert str(jobs.read(tmp_path, small.id).error).endswith("face1 (0.0-0.8 s).")
    assert f"{small.id}: failed, " in (small.folder / "log.txt").read_text()
    (tmp_path / "torn.mkv").write_bytes(film.read_bytes()[:2000])
    torn = jobs.create(tmp_path, tmp_path / "torn.mkv", speech, None, DubOptions(method="echo"))
    assert jobs.start(tmp_path, torn.id, memory_bytes=4 << 30, threads=1).wait() == 2
    assert "allowed 4294967296 bytes" in str(jobs.read(tmp_path, torn.id).error)
    late = jobs.create(tmp_path, film, speech, None, DubOptions(method="echo"))
    assert jobs.start(tmp_path, late.id, seconds=0.01).wait() == 128 + signal.SIGTERM
    ended = jobs.read(tmp_path, late.id)
    assert ended.state == "failed" and "longer than 0.01 seconds" in str(ended.error)


def test_looking_at_jobs_imports_nothing_heavy(film: Path, speech: Path, tmp_path: Path) -> None:
    jobs.create(tmp_path, film, speech)
    code = f"import sys; from unisync import jobs; jobs.list_jobs({str(tmp_path)!r}); print(*sorted(sys.modules))\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "av", "cv2", "scipy"} & set(done.stdout.split())


def test_the_command_line_of_jobs(film: Path, speech: Path, tmp_path: Path) -> None:
    def unisync(*words: str | Path) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, ["jobs", *map(str, words), "--jobs", str(tmp_path)])
        return done.exit_code, done.stdout, done.stderr

    code, id_, _ = unisync("add", film, speech, "--method", "echo", "--face", "nobody")
    id_ = id_.strip()
    assert code == 0 and unisync("list")[1].splitlines()[1].split()[:3] == [id_, "queued", "0"]
    assert unisync("run", id_)[0] == 2
    code, other, _ = unisync("remix", id_, "--face", "all")
    assert code == 0 and unisync("retry", id_)[0] == 0 and unisync("cancel", id_)[0] == 0
    code, said, _ = unisync("run")
    assert code == 0 and said.startswith(f"{other.strip()}: done, ")
    assert json.loads(unisync("show", other.strip())[1])["state"] == "done"
    assert unisync("delete", id_)[0] == 0
    code, _, said = unisync("show", id_)
    assert code == 2 and said.startswith(f"unisync: there is no job {id_!r}") and said.count("\n") == 1
    assert [row["state"] for row in api.jobs.rows(api.jobs.list_jobs(tmp_path))] == ["done"]
