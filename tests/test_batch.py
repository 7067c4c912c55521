"""A batch by Ray: two nodes on one machine, a worker killed in the middle, nothing lost and nothing done twice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from faces import frames, lay
from unisync import batch, jobs
from unisync.demo import demo_speech
from unisync.errors import OptionError
from unisync.jobs.rows import Row
from unisync.media import EncodeOptions, drawn, write_film
from unisync.options import DubOptions

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'unisync[ray]'")
NUM = 12
ECHO = DubOptions(method="echo", preset="ultrafast")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of three shots with a face each."""
    path = tmp_path_factory.mktemp("film") / "film.mkv"
    flat = [
        lay([(120, 120, 0.9)], (240, 240)),
        255 - lay([(120, 130, 0.9)], (240, 240))[::-1],
        lay([(110, 120, 1)], (240, 240)),
    ]
    pictures = [flat[i // NUM] for i in range(3 * NUM)]
    write_film(frames(pictures), path, drawn("x", 240, 240, 25, 3 * NUM), None, EncodeOptions("h264", 16, "ultrafast"))
    return path


@pytest.fixture(scope="module")
def cluster() -> Iterator[batch.Cluster]:
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        here = str(Path(__file__).parent)  # its workers import the mortal one from this file
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH")))))
        nodes = Cluster()
        for _ in range(2):
            nodes.add_node(num_cpus=1, object_store_memory=80 << 20, include_dashboard=False)
        ray.init(nodes.address, log_to_driver=False, logging_level="ERROR")
        assert len(ray.nodes()) == 2
        yield batch.Cluster(cores=1, split_frames=10)
        ray.shutdown()
        nodes.shutdown()


class Mortal(batch.Worker):
    """A worker that is killed once, over the second shot of a film, and once while it writes one."""

    def paint(self, folder: Path, shot: int) -> None:
        self._die(folder.parent.parent / "painting", folder)
        super().paint(folder, shot)

    def finish(self, folder: Path) -> None:
        self._die(folder.parent.parent / "finishing", folder)
        super().finish(folder)

    def _die(self, mark: Path, folder: Path) -> None:
        with (folder.parent.parent / "calls").open("a") as file:
            file.write(f"{mark.name} {folder.name}\n")
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), 9)


def test_a_worker_is_killed_and_nothing_is_lost_or_done_twice(
    cluster: batch.Cluster, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speech, bad = demo_speech(), tmp_path / "no film.mp4"
    bad.write_text("no film")
    rows = [Row(name, film, speech, Path(name), options=ECHO) for name in ("a.mp4", "b.mp4")]
    rows += [Row("bad", bad, speech, Path("bad.mp4"), options=ECHO)]
    monkeypatch.setattr(batch, "Worker", Mortal)
    results = list(batch.batch(rows, tmp_path, cluster=cluster))
    assert sorted((result.row, result.state) for result in results) == [
        ("a.mp4", "done"), ("b.mp4", "done"), ("bad", "failed"),
    ]  # fmt: skip
    assert (tmp_path / "painting").exists() and (tmp_path / "finishing").exists()
    alone = jobs.create(tmp_path / "alone", film, speech, None, ECHO)
    assert jobs.run(tmp_path / "alone", alone.id).state == "done"
    for name in ("a.mp4", "b.mp4"):
        assert (tmp_path / name).read_bytes() == alone.out.read_bytes()
    for job in jobs.list_jobs(tmp_path / "jobs"):
        last = [event for event in jobs.events(tmp_path / "jobs", job.id)[0] if event["event"] == "window"][-1:]
        assert all(event["painted"] == 0 for event in last)  # the shots were painted one by one
    calls = len((tmp_path / "calls").read_text().splitlines())
    assert [result.state for result in batch.batch(rows[:2], tmp_path, cluster=cluster)] == ["done", "done"]
    more = (tmp_path / "calls").read_text().splitlines()[calls:]
    assert [line.split()[0] for line in more] == ["finishing"] * 2
    assert {job.attempts for job in jobs.list_jobs(tmp_path / "jobs") if job.state == "done"} == {1}


def test_a_cluster_that_is_too_small_is_told(cluster: batch.Cluster, film: Path, tmp_path: Path) -> None:
    rows = [Row("a", film, demo_speech(), options=ECHO)]
    with pytest.raises(OptionError, match="no worker of 64 cores"):
        list(batch.batch(rows, tmp_path, cluster=batch.Cluster(cores=64)))
