"""What is counted, for Prometheus."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECONDS = (0.005, 0.02, 0.1, 0.5, 2, 10, 60)
WORK_SECONDS = (1, 5, 20, 60, 300, 1200, 3600)


class Meters:
    """The server's own counters, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "unisync_requests", "Requests answered.", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "unisync_request_seconds", "Time to the answer's first byte.", buckets=SECONDS, registry=self.registry
        )
        self.uploaded = Counter("unisync_uploaded_bytes", "Bytes of finished uploads.", registry=self.registry)
        self.work = Histogram(
            "unisync_work_seconds",
            "Time of a worker.",
            ["work", "outcome"],
            buckets=WORK_SECONDS,
            registry=self.registry,
        )
        self.waiting = Gauge("unisync_waiting", "Jobs that wait.", registry=self.registry)
        self.running = Gauge("unisync_running", "Workers at work.", registry=self.registry)

    def text(self) -> bytes:
        """Return all of them in Prometheus' text format."""
        return generate_latest(self.registry)


class Metered:
    """Counts requests, by the route and not by the path, whose ids are endless."""

    def __init__(self, app: ASGIApp, meters: Meters) -> None:
        self.app, self.meters = app, meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = time.monotonic()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "other")
                self.meters.requests.labels(scope["method"], route, message["status"]).inc()
                self.meters.seconds.observe(time.monotonic() - begun)
            await send(message)

        await self.app(scope, receive, counted)
