"""Many films at once on one machine: tables, patterns, a watched folder; and that nothing is done twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from unisync import batch, jobs
from unisync.cli import app
from unisync.errors import JobError, OptionError
from unisync.jobs.pool import run_all
from unisync.jobs.rows import Row, jobs_of, read_rows
from unisync.jobs.watch import Arrivals, watch
from unisync.options import DubOptions

ECHO = DubOptions(method="echo")


def unisync(*words: str | Path) -> tuple[int, list[dict[str, object]], str]:
    done = CliRunner().invoke(app, list(map(str, words)))
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_a_table_is_read_with_its_options_and_its_faults(tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text(
        "film,speech,out,speak,crf,carry,strength\n"
        "a.mp4,b.wav,x/a.mkv,,30,true,\n"
        "b.mp4,,,face1=c.wav; face2=d.wav,,,.5\n"
        "c.mp4,b.wav,,,much,,\n,b.wav,,,,,\nd.mp4,,,face1,,,\n"
    )
    first, second, *bad = read_rows(str(table), Path("all.wav"), {}, {"seed": 3})
    assert first == Row(
        "pairs.csv:2",
        tmp_path / "a.mp4",
        tmp_path / "b.wav",
        Path("x/a.mkv"),
        {},
        DubOptions(seed=3, crf=30, carry=True),
    )
    assert second.speech == Path("all.wav") and second.options == DubOptions(seed=3, strength=0.5)
    assert second.speeches == {"face1": tmp_path / "c.wav", "face2": tmp_path / "d.wav"}
    problems = [str(row.problem) for row in bad]
    assert "crf must be a whole number" in problems[0] and "names no film" in problems[1] and "NAME=FILE" in problems[2]
    table.write_text("film,spech\n")
    with pytest.raises(OptionError, match=r"pairs\.csv: there is no option 'spech'; did you mean 'speech'"):
        read_rows(str(table), None, {}, {})
    table.write_text("speech\n")
    with pytest.raises(OptionError, match="no column 'film'"):
        read_rows(str(table), None, {}, {})
    with pytest.raises(OptionError, match="no such file"):
        read_rows(str(tmp_path / "*.mp4"), None, {}, {})


def test_a_batch_goes_on_over_bad_rows_and_does_nothing_twice(film: Path, speech: Path, tmp_path: Path) -> None:
    table, out = tmp_path / "pairs.csv", tmp_path / "out"
    (tmp_path / "text.mp4").write_text("no film")
    out.mkdir()
    (out / "theirs.mkv").write_text("theirs")
    table.write_text(
        f"film,speech,out\n{film},{speech},\n{film},{speech},\n{film},{speech},theirs.mkv\n"
        f"text.mp4,{speech},\nnone.mp4,{speech},\n{film},,\n"
    )
    words = "batch", table, "-o", out, "--method", "echo", "--jobs", 2
    code, lines, _ = unisync(*words)
    assert code == 2
    found = {line["row"]: line for line in lines}
    assert [found[f"pairs.csv:{i}"]["state"] for i in range(2, 8)] == [
        "done",
        "refused",
        "refused",
        "failed",
        *["refused"] * 2,
    ]
    for number, said in ((3, "is what pairs.csv:2 writes"), (4, "none of ours"), (5, "text.mp4"), (6, "no such file")):
        assert said in str(found[f"pairs.csv:{number}"]["error"])
    assert found["pairs.csv:2"]["frames"] == 20 and (out / "theirs.mkv").read_text() == "theirs"
    made = out / f"{film.stem}.mkv"
    written = made.stat().st_mtime_ns
    table.write_text(f"film,speech,out\n{film},{speech},\n")
    code, lines, _ = unisync(*words)
    assert (code, [line["state"] for line in lines]) == (0, ["done"])
    assert made.stat().st_mtime_ns == written
    other = read_rows(str(table), None, {}, {"method": "echo", "crf": 40})
    [(_, job)], _ = jobs_of(other, out)
    assert job.state == "queued" and job.id != lines[0]["job"]  # another wish, another job


KILLED = """
import os, signal, sys
from pathlib import Path
from unisync.jobs.pool import run_all
from unisync.jobs.rows import Row, jobs_of
from unisync.options import DubOptions
film, speech, out = map(Path, sys.argv[1:])
rows = [Row(name, film, speech, Path(name), options=DubOptions(method="echo")) for name in ("a.mp4", "b.mp4")]
for job in run_all([job for _, job in jobs_of(rows, out)[0]]):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_batch_goes_on(film: Path, speech: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, film, speech, tmp_path])
    assert done.returncode == -signal.SIGKILL
    rows = [Row(name, film, speech, Path(name), options=ECHO) for name in ("a.mp4", "b.mp4")]
    assert [result.state for result in batch.batch(rows, tmp_path)] == ["done", "done"]
    assert [job.attempts for job in jobs.list_jobs(tmp_path / "jobs")] == [1, 1]


def test_a_job_whose_process_dies_is_started_again_a_few_times(
    film: Path, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []

    def start(folder: Path, id_: str, threads: int | None) -> subprocess.Popen[bytes]:
        begun.append(id_)
        return subprocess.Popen([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])

    monkeypatch.setattr("unisync.jobs.pool.start", start)
    job = jobs.create(tmp_path, film, speech)
    [ended] = run_all([job])
    assert ended.state == "queued" and "died 3 times" in str(ended.error)
    assert begun == [job.id] * 3


def test_files_are_whole_when_they_stay_as_they_are(tmp_path: Path) -> None:
    arrivals, path = Arrivals(3), tmp_path / "a.mp4"
    path.write_bytes(b"1")
    (tmp_path / ".hidden.mp4").write_bytes(b"1")
    (tmp_path / "empty.mp4").touch()
    assert arrivals.look(tmp_path, 0) == ([], True)
    path.write_bytes(b"12")
    assert arrivals.look(tmp_path, 3) == ([], True)
    assert arrivals.look(tmp_path, 5) == ([], True)
    assert arrivals.look(tmp_path, 6) == ([path], False)
    os.utime(path, ns=(1, 1))
    assert arrivals.look(tmp_path, 20) == ([], True)


def test_a_folder_is_watched(film: Path, speech: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    out.mkdir()
    for name, source in (("a.mkv", film), ("a.flac", speech), ("b.mkv", film), ("c.wav", speech)):
        shutil.copyfile(source, folder / name)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    stream = watch(folder, out, ECHO, seconds=0)
    first = next(stream)
    assert (first.row, first.state, first.out) == ("a.mkv", "done", str(out / "a.mkv"))
    shutil.copyfile(speech, folder / "b.flac")  # arrives later
    second = next(stream)
    assert (second.row, second.state) == ("b.mkv", "done")
    stream.close()
    code, lines, _ = unisync("watch", folder, "-o", out, "--once", "--settle", 0, "--method", "echo")
    assert code == 0 and [line["job"] for line in lines] == [first.job, second.job]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert [job.attempts for job in jobs.list_jobs(out / "jobs")] == [1, 1]
    with pytest.raises(OptionError, match="is no folder"):
        next(watch(tmp_path / "none", out, ECHO))
    with pytest.raises(OptionError, match="elsewhere"):
        next(watch(folder, folder, ECHO))


def test_a_folder_that_cannot_be_made_is_told(film: Path, speech: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(JobError, match="cannot be written"):
        jobs_of([Row("a", film, speech)], tmp_path / "out")


def test_without_ray_it_is_said_how_to_get_it(
    film: Path, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    (tmp_path / "pairs.csv").write_text(f"film,speech\n{film},{speech}\n")
    code, lines, said = unisync("batch", tmp_path / "pairs.csv", "-o", tmp_path, "--ray", "local")
    assert (code, lines) == (2, []) and "pip install 'unisync[ray]'" in said and said.count("\n") == 1
