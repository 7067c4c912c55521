"""A server started for real, and a client that speaks plain HTTP to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

PATIENCE = 90


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return str(self.json["error"])


@dataclass
class Server:
    """A server at work in `root`; `again` starts another in its place."""

    root: Path
    flags: tuple[str, ...] = ()
    token: str | None = None
    process: subprocess.Popen[str] = field(init=False)
    port: int = field(init=False)

    def begin(self) -> None:
        words = [sys.executable, "-m", "unisync", "serve", "--port", "0", "--root", str(self.root), *self.flags]
        environment = {k: v for k, v in os.environ.items() if k != "UNISYNC_TOKEN"}
        environment |= {"UNISYNC_TOKEN": self.token} if self.token else {}
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.port = int(line.split(";")[0].rpartition(":")[2])

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        sent = dict(headers or {})
        if isinstance(body, dict):
            body, sent["content-type"] = json.dumps(body).encode(), "application/json"
        if self.token:
            sent.setdefault("authorization", f"Bearer {self.token}")
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def follow(self, path: str) -> list[dict[str, Any]]:
        """Return every state that a stream of events told, to its end."""
        text = self.ask("GET", f"{path}/events").body.decode()
        return [
            json.loads(part.partition("data: ")[2]) for part in text.split("\n\n") if part.startswith("event: state")
        ]

    def send(self, plural: str, name: str, content: bytes) -> dict[str, Any]:
        """Upload, wait until it was looked at, and return how it stands."""
        answer = self.ask("POST", f"/api/{plural}?name={name}", content)
        assert answer.status == 201, answer.body
        return self.follow(f"/api/{plural}/{answer.json['id']}")[-1]

    def wait(self, path: str, done: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            now: dict[str, Any] = self.ask("GET", path).json
            if done(now):
                return now
            time.sleep(0.05)
        raise AssertionError(f"{path} stayed {now}")
