"""The REST server, over real HTTP: the whole way, what it refuses, and that nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from served import Server

from unisync.api import jobs
from unisync.errors import OptionError
from unisync.media import probe
from unisync.media.inspect import inspect
from unisync.options import ServeOptions
from unisync.server import views
from unisync.server.asked import Asked
from unisync.server.meters import Meters
from unisync.server.serving import serve
from unisync.server.storage import Kind

NUM = 15
Ready = tuple[dict[str, Any], dict[str, Any]]


def job_of(ready: Ready, **more: Any) -> dict[str, Any]:
    return {"film": ready[0]["id"], "speech": ready[1]["id"], "options": {"method": "echo", **more}}


def test_the_whole_way(server: Server, ready: Ready, tmp_path: Path) -> None:
    film, speech = ready
    assert (film["state"], film["title"], film["facts"]["frames"]) == ("ready", "a film.mp4", NUM)
    assert [face["name"] for face in film["faces"]] == ["face1"] and speech["facts"]["seconds"] > 4
    assert server.ask("GET", f"/api/films/{film['id']}/faces.png").body.startswith(b"\x89PNG")
    made = server.ask("POST", "/api/jobs", job_of(ready, face="face1") | {"container": "mkv"})
    assert made.status == 201 and made.json["state"] == "queued"
    place = f"/api/jobs/{made.json['id']}"
    told = server.follow(place)
    assert told[-1]["state"] == "done", told[-1]
    assert told[-1]["progress"] == {"stage": "dub", "done": NUM, "total": NUM}
    assert told[-1]["warnings"][0].startswith("the speech is 4.") and "1 face" in told[-1]["line"]
    whole = server.ask("GET", f"{place}/result?download=1")
    assert "a%20film-dubbed.mkv" in whole.headers["content-disposition"]
    part = server.ask("GET", f"{place}/result", headers={"range": "bytes=100-199"})
    assert (part.status, part.body) == (206, whole.body[100:200])
    out = tmp_path / "out.mkv"
    out.write_bytes(whole.body)
    assert len(probe(out)) == NUM and inspect(out).state == "present"
    assert server.ask("GET", f"{place}/preview.jpg").body.startswith(b"\xff\xd8")
    report = server.ask("GET", f"{place}/report")
    assert report.json["film"] == "a film.mp4" and str(server.root) not in report.body.decode()
    assert str(server.root) not in server.ask("GET", "/api/jobs").body.decode()
    assert server.ask("POST", f"{place}/cancel").status == 409
    assert server.ask("DELETE", place).json == {"deleted": True}
    assert server.ask("GET", place).status == 404
    assert not (server.root / "jobs" / made.json["id"]).exists()


def test_the_web_process_never_loads_what_decodes(server: Server, ready: Ready) -> None:
    loaded = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "python" in loaded
    for name in ("libtorch", "libavcodec", "cv2", "litert"):
        assert name not in loaded, name


def test_the_interface_describes_itself(server: Server) -> None:
    paths = server.ask("GET", "/openapi.json").json["paths"]
    assert {"/api/films", "/api/speeches/named", "/api/jobs/{id}/events", "/api/jobs/{id}/result"} <= set(paths)
    names = {option["name"] for option in server.ask("GET", "/api/options").json["options"]}
    assert {"face", "when_longer", "seed"} <= names and not {"weights", "plan", "c2pa_key", "report"} & names
    text = server.ask("GET", "/metrics").body.decode()
    assert 'unisync_requests_total{method="GET",route="/api/options",status="200"}' in text
    assert "process_resident_memory_bytes" in text


REFUSED = {
    "no such film": ("GET", "/api/films/0123456789abcdef", None, 404, "there is no film '0123456789abcdef'"),
    "no such job": ("GET", "/api/jobs/0123456789abcdef", None, 404, "there is no job"),
    "a way out": ("GET", "/api/films/..%2f..%2fetc/file", None, 404, ""),
    "dots": ("DELETE", "/api/jobs/..", None, 404, ""),
    "no name": ("POST", "/api/films", b"x", 422, "name: Field required"),
    "no kind": ("POST", "/api/films?name=a.exe", b"x", 415, "ends in one of .mp4"),
    "nothing": ("POST", "/api/films?name=a.mp4", b"", 400, "is empty"),
    "too large": ("POST", "/api/films?name=a.mp4", b"x" * 2_000_001, 413, "larger than 2 MB"),
    "no body": ("POST", "/api/jobs", {"film": "x"}, 422, "speech: Field required"),
    "no film for a job": ("POST", "/api/jobs", {"film": "x", "speech": "y"}, 404, "there is no film 'x'"),
    "a path that is nowhere": ("POST", "/api/films/named", {"path": "none.mp4"}, 403, "is no file in a folder"),
    "a path outside": ("POST", "/api/films/named", {"path": "/etc/passwd"}, 403, "is no file in a folder"),
    "a path upwards": ("POST", "/api/films/named", {"path": "../root/films"}, 403, "is no file in a folder"),
    "nowhere": ("GET", "/api/nothing", None, 404, "Not Found"),
}  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "status", "words"), REFUSED.values(), ids=REFUSED)
def test_bad_requests_get_one_sentence(
    server: Server, method: str, path: str, body: Any, status: int, words: str
) -> None:
    answer = server.ask(method, path, body)
    assert answer.status == status, answer.body
    assert words in answer.error and "\n" not in answer.error
    assert not [place for place in server.root.rglob("*") if place.suffix == ".part"]


def test_an_upload_without_a_length_is_cut_off_at_the_limit(server: Server) -> None:
    before = len(list((server.root / "films").iterdir()))
    answer = server.ask("POST", "/api/films?name=a.mp4", (b"x" * 100_000 for _ in range(21)))
    assert answer.status == 413
    assert len(list((server.root / "films").iterdir())) == before


def test_a_body_that_is_no_upload_has_a_limit(server: Server) -> None:
    for body, status in ((b'{"film": "' + b"x" * 2_000_000, 413), ((b"x" * 1000 for _ in range(3)), 411)):
        answer = server.ask("POST", "/api/jobs", body, {"content-type": "application/json"})
        assert answer.status == status and answer.error


def test_a_client_that_leaves_leaves_nothing(server: Server) -> None:
    before = sorted((server.root / "films").iterdir())
    with socket.create_connection(("127.0.0.1", server.port)) as leaving:
        head = b"POST /api/films?name=a.mp4 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nx"
        leaving.sendall(head)
        while sorted((server.root / "films").iterdir()) == before:
            time.sleep(0.01)
    end = time.monotonic() + 20
    while sorted((server.root / "films").iterdir()) != before:
        assert time.monotonic() < end
        time.sleep(0.01)
    counted = 'unisync_requests_total{method="POST",route="/api/films",status="500"}'
    assert counted not in server.ask("GET", "/metrics").body.decode()


@pytest.mark.parametrize("name", ["weights", "backbone", "audio-encoder", "c2pa-key", "report", "plan", "vram"])
def test_options_that_name_files_or_the_machines_use_are_the_servers(server: Server, ready: Ready, name: str) -> None:
    answer = server.ask("POST", "/api/jobs", job_of(ready, **{name: "/etc/passwd"}))
    assert answer.status == 400 and "the server's own business" in answer.error
    answer = server.ask("POST", "/api/jobs", job_of(ready, faec="x"))
    assert answer.status == 400 and "did you mean 'face'" in answer.error


def test_no_text_that_a_client_may_choose_names_a_file() -> None:
    """Whoever adds an option of words has to say whose it is."""
    free = {told["name"] for told in views.options() if told["kind"] == "text" and told["choices"] is None}
    assert free == {"box", "face", "preset"}


def test_named_files_stay_in_their_folder(server: Server, film: Path, tmp_path: Path) -> None:
    allowed = server.root.parent / "allowed"
    (tmp_path / "outside.mp4").write_bytes(film.read_bytes())
    (allowed / "link.mp4").symlink_to(tmp_path / "outside.mp4")
    (allowed / "inside.mp4").write_bytes(film.read_bytes())
    for path in ("link.mp4", str(allowed / "link.mp4")):
        assert server.ask("POST", "/api/films/named", {"path": path}).status == 403
    named = server.ask("POST", "/api/films/named", {"path": "inside.mp4"})
    assert named.status == 201
    assert server.follow(f"/api/films/{named.json['id']}")[-1]["state"] == "ready"
    assert server.ask("DELETE", f"/api/films/{named.json['id']}").status == 200
    assert (allowed / "inside.mp4").exists()


def png(side: int) -> bytes:
    """Return a PNG that is small as a file and huge as a picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    packer = zlib.compressobj(1)
    rows = b"".join([*(packer.compress(bytes(side + 1)) for _ in range(side)), packer.flush()])
    head = side.to_bytes(4, "big") * 2 + bytes((8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_hostile_files_are_refused_by_a_worker_and_the_server_goes_on(server: Server, film: Path) -> None:
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\nfile://{film}\n#EXT-X-ENDLIST\n".encode()
    cases = {
        "list.mp4": (playlist, "list.mp4 is no film"),
        "half.mp4": (film.read_bytes()[:900], "half.mp4"),
        "wide.png": (png(600), "600x600, and this server takes 250000 pixels at most"),
    }
    for name, (content, words) in cases.items():
        found = server.send("films", name, content)
        assert found["state"] == "refused" and words in found["error"], found
        assert str(server.root) not in found["error"]
        assert server.ask("POST", "/api/jobs", {"film": found["id"], "speech": "x"}).status == 409
    assert server.ask("GET", "/healthz").json["ok"]


def test_pages_of_other_sites_and_other_names_get_nothing(server: Server) -> None:
    host = f"127.0.0.1:{server.port}"
    assert server.ask("GET", "/api/jobs", headers={"host": "evil.example"}).status == 421
    foreign = server.ask("POST", "/api/jobs", {}, {"origin": "https://evil.example", "host": host})
    assert foreign.status == 403 and "another site" in foreign.error
    assert server.ask("POST", "/api/jobs", {}, {"origin": f"http://{host}", "host": host}).status == 422
    page = server.ask("GET", "/")
    assert (
        "default-src 'none'" in page.headers["content-security-policy"]
        and page.headers["x-content-type-options"] == "nosniff"
    )


def test_elsewhere_wants_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNISYNC_TOKEN", raising=False)
    with pytest.raises(OptionError, match="choose a token"):
        serve(ServeOptions(host="0.0.0.0", root=str(tmp_path)), print)
    with pytest.raises(OptionError, match="is no folder"):
        serve(ServeOptions(allow=str(tmp_path / "none"), root=str(tmp_path)), print)


def test_a_token_a_full_queue_and_whatever_is_killed(tmp_path: Path, film: Path, speech: Path) -> None:
    """One server for what needs one of its own: it is killed in the middle of a job, and the next one finishes it."""
    server = Server(tmp_path / "root", ("--queue", "2", "--grace", "0"), token="open sesame")
    server.begin()
    wrong = {"authorization": "Bearer open sesama"}
    assert server.ask("GET", "/api/jobs", headers=wrong).status == 401
    assert server.ask("GET", "/metrics", headers=wrong).status == 401
    assert server.ask("GET", "/", headers=wrong).status == 200
    assert server.ask("POST", "/api/session", {"token": "x"}, wrong).status == 401
    cookie = server.ask("POST", "/api/session", {"token": "open sesame"}, wrong).headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie
    assert (
        server.ask("GET", "/api/jobs", headers=wrong | {"authorization": "", "cookie": cookie.split(";")[0]}).status
        == 200
    )
    ready = server.send("films", "a.mp4", film.read_bytes()), server.send("speeches", "a.flac", speech.read_bytes())
    jobs = [server.ask("POST", "/api/jobs", job_of(ready)).json["id"] for _ in range(2)]
    running = server.wait(f"/api/jobs/{jobs[0]}", lambda job: job["state"] != "queued")
    assert running["state"] == "running"
    worker = next(pid for pid in children(server.process.pid) if "jobs" in command(pid))
    os.kill(worker, signal.SIGKILL)
    server.wait(f"/api/jobs/{jobs[0]}", lambda job: job["attempts"] > 1 or job["state"] == "interrupted")
    answers = (server.ask("POST", "/api/jobs", job_of(ready)) for _ in range(20))  # some may be done meanwhile
    full = next((answer for answer in answers if answer.status != 201), None)
    assert full is not None and full.status == 503 and "wait already" in full.error
    server.end(signal.SIGKILL)
    server.begin()
    for job in jobs:
        last = server.follow(f"/api/jobs/{job}")[-1]
        assert last["state"] == "done", last
    assert server.end() in (0, 143)
    states = [server_state(place) for place in (tmp_path / "root" / "jobs").iterdir()]
    assert set(states) <= {"done", "queued", "running"}  # put back, to go on by the next start


def test_a_worker_that_never_begins_is_given_up(
    tmp_path: Path, film: Path, speech: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is started for ever: the job says why it was put aside, and can be asked for again."""
    options = ServeOptions(root=str(tmp_path))
    asked = Asked(options, Meters())
    asked.storage.sweep()
    asked.desk.begin()
    asked.storage.allowed = (film.parent, speech.parent)
    kinds: tuple[tuple[Kind, Path], ...] = (("film", film), ("speech", speech))
    ids = [asked.name_path(kind, str(path))["id"] for kind, path in kinds]
    for name, (kind, _) in zip(ids, kinds, strict=True):
        asked.storage.change(kind, name, state="ready", facts={"still": False})
    job = asked.create(*ids, {"method": "echo"}, "mp4")
    monkeypatch.setattr(jobs, "start", lambda *_, **__: subprocess.Popen(["false"], start_new_session=True))
    end = time.monotonic() + 30
    while asked.job(job["id"]).view()["state"] == "queued":
        asked.desk.tick()
        assert time.monotonic() < end
    view = asked.job(job["id"]).view()
    assert view["state"] == "cancelled" and "exit code 1), 2 times" in view["error"]
    assert asked.retry(job["id"])["error"] == ""


def server_state(folder: Path) -> str:
    state = jobs.read(folder.parent, folder.name).state
    return "running" if state == "interrupted" else state


def children(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return [int(word) for word in found.split()]


def command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def test_a_worker_has_a_limit_of_memory(tmp_path: Path) -> None:
    """A picture that is small as a file and large as pixels is too much for its worker, and it says so."""
    (tmp_path / "film.png").write_bytes(png(8_000))
    (tmp_path / "about.json").write_text(json.dumps({"path": str(tmp_path / "film.png"), "kind": "film"}))
    limits = "600", str(10**9), str(450 << 20), "60"
    subprocess.run([sys.executable, "-m", "unisync.server.looking", str(tmp_path), *limits], check=True)
    error = json.loads((tmp_path / "look.json").read_text())["error"]
    assert error.startswith(str(tmp_path / "film.png")) and "wants more memory" in error
