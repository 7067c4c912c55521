"""The server under load, and under violence: `python benchmarks/serve.py [--jobs 30] [--upload 200] [--slow 20]`.

Many small jobs, large uploads, slow clients, killed workers, and the server itself killed in the middle and started
again. Everything is on this machine, bounded in number and time. It prints figures, and ends with 1 if anything was lost.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from unisync.demo import demo_speech, make_demo_film

PATIENCE_SECONDS = 900
ENDED = ("done", "failed", "cancelled")


@dataclass
class Served:
    """A server, and its largest memory as seen four times a second."""

    root: Path
    process: subprocess.Popen[str] = field(init=False)
    port: int = field(init=False, default=0)
    peak: int = 0

    def begin(self) -> float:
        """Start it and return the seconds until it answered."""
        begun = time.monotonic()
        words = [sys.executable, "-m", "unisync", "serve", "--port", str(self.port), "--root", str(self.root)]
        self.process = subprocess.Popen(
            [*words, "--queue", "1000", "--workers", "2"], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().split(";")[0].rpartition(":")[2])
        threading.Thread(target=self._watch, args=(self.process,), daemon=True).start()
        return time.monotonic() - begun

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Ask; where the server is away for a moment, ask again."""
        sent = {"content-type": "application/json"} if isinstance(body, dict) else {}
        content = json.dumps(body).encode() if isinstance(body, dict) else body
        end = time.monotonic() + 60
        while True:
            connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
            try:
                connection.request(method, path, content, sent)
                answer = connection.getresponse()
                return answer.status, json.loads(answer.read())
            except OSError:
                if time.monotonic() > end or method != "GET":
                    raise
                time.sleep(0.2)
            finally:
                connection.close()

    def wait(self, path: str, states: tuple[str, ...]) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            found: dict[str, Any] = self.ask("GET", path)[1]
            if found["state"] in states:
                return found
            time.sleep(0.2)
        raise TimeoutError(path)

    def send(self, plural: str, path: Path) -> str:
        status, made = self.ask("POST", f"/api/{plural}?name={path.name}", path.read_bytes())
        assert status == 201, made
        found = self.wait(f"/api/{plural}/{made['id']}", ("ready", "refused"))
        assert found["state"] == "ready", found
        return str(made["id"])

    def _watch(self, process: subprocess.Popen[str]) -> None:
        page = os.sysconf("SC_PAGE_SIZE")
        while process.poll() is None:
            try:
                self.peak = max(self.peak, page * int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]))
            except OSError:
                return
            time.sleep(0.25)


def requests(served: Served, num: int) -> None:
    """Print how many small requests a second it answers, from eight clients at once."""
    begun = time.monotonic()

    def client(_: int) -> None:
        connection = HTTPConnection("127.0.0.1", served.port, timeout=60)
        for _ in range(num // 8):
            connection.request("GET", "/api/session")
            assert connection.getresponse().read()
        connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(client, range(8)))
    print(f"requests: {num / (time.monotonic() - begun):.0f} a second, {num} from 8 clients")


def uploads(served: Served, megabytes: int) -> None:
    """Print the pace of one large upload, whose film is none and is refused, and what memory it took."""
    before, begun = served.peak, time.monotonic()
    block = random.Random(0).randbytes(1 << 20)
    status, made = served.ask("POST", "/api/films?name=large.mp4", (block for _ in range(megabytes)))
    spent = time.monotonic() - begun
    assert status == 201, made
    time.sleep(0.5)
    grown = (served.peak - before) / 1e6
    print(
        f"upload: {megabytes * 1.048576 / spent:.0f} MB/s ({megabytes} MiB), the server's memory grew by {grown:.0f} MB"
    )
    found = served.wait(f"/api/films/{made['id']}", ("ready", "refused"))
    assert found["state"] == "refused", found
    assert served.ask("DELETE", f"/api/films/{made['id']}")[0] == 200


def slow_clients(served: Served, num: int) -> None:
    """Open uploads that send a byte now and then, and print how long others wait meanwhile."""
    held = []
    for _ in range(num):
        slow = socket.create_connection(("127.0.0.1", served.port))
        slow.sendall(b"POST /api/films?name=slow.mp4 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\nx")
        held.append(slow)
    waits = []
    for _ in range(50):
        begun = time.monotonic()
        served.ask("GET", "/api/session")
        waits.append(time.monotonic() - begun)
        held[random.randrange(num)].sendall(b"x")
    for slow in held:
        slow.close()
    time.sleep(1)
    left = [place for place in (served.root / "films").iterdir() if not (place / "about.json").exists()]
    print(
        f"{num} slow clients: others wait {1000 * sorted(waits)[25]:.0f} ms (median), {1000 * max(waits):.0f} ms at most"
    )
    assert not left, f"uploads that were given up left {left}"


def workers_of(served: Served) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(served.process.pid)], capture_output=True, text=True)
    return [pid for pid in map(int, found.stdout.split()) if b"jobs\0run" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def jobs(served: Served, num: int, folder: Path) -> int:
    """Make jobs, kill a worker and then the server in the middle, and return how many jobs were lost."""
    film, speech = (
        served.send("films", make_demo_film(folder / "film.mp4", 0.4)),
        served.send("speeches", demo_speech()),
    )
    body = {"film": film, "speech": speech, "options": {"method": "echo"}}
    begun = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        made = [each[1]["id"] for each in pool.map(lambda _: served.ask("POST", "/api/jobs", body), range(num))]
    print(f"jobs: {num} made in {time.monotonic() - begun:.1f} s")
    killed = 0
    while killed < 2:
        for pid in workers_of(served)[:1]:
            os.kill(pid, signal.SIGKILL)
            killed += 1
        time.sleep(2)
    served.process.kill()
    served.process.wait()
    print(f"killed: {killed} workers, then the server, which answered again after {served.begin():.1f} s")
    states = [served.wait(f"/api/jobs/{name}", ENDED) for name in made]
    spent, tries = time.monotonic() - begun, sum(state["attempts"] for state in states)
    lost = sum(state["state"] != "done" for state in states)
    print(f"jobs: {num - lost} of {num} done, {60 * num / spent:.0f} a minute, {tries} attempts; lost: {lost}")
    return lost


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--jobs", type=int, default=30)
    asked.add_argument("--requests", type=int, default=2000)
    asked.add_argument("--upload", type=int, default=200, help="MiB")
    asked.add_argument("--slow", type=int, default=20)
    wanted = asked.parse_args()
    with tempfile.TemporaryDirectory() as name:
        served = Served(Path(name) / "root")
        print(f"started in {served.begin():.1f} s")
        try:
            requests(served, wanted.requests)
            uploads(served, wanted.upload)
            slow_clients(served, wanted.slow)
            lost = jobs(served, wanted.jobs, Path(name))
        finally:
            served.process.terminate()
            served.process.wait(60)
        print(f"the web process took {served.peak / 1e6:.0f} MB at most")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
