"""Who may speak to the server, and what browsers may do with its answers. Plain ASGI, so that streams stay streams."""

from __future__ import annotations

import hmac
import ipaddress
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "unisync_token"
SCRIPT = "text/javascript"
PAGE = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", SCRIPT),
    "/choices.js": ("choices.js", SCRIPT),
    "/player.js": ("player.js", SCRIPT),
    "/words.js": ("words.js", SCRIPT),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
"""What the page is made of, by its address."""
OPEN_PATHS = (*PAGE, "/api/session", "/healthz")
"""What needs no token: the page itself, on which one can be given."""
UPLOADS = ("/api/films", "/api/speeches")
"""Where a body may be as large as an upload; elsewhere it may be BODY_BYTES."""
BODY_BYTES = 1_000_000
SAFE = ("GET", "HEAD", "OPTIONS")
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self' blob:; "
        "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(self)",
}


def is_loopback(host: str) -> bool:
    """Return whether an address reaches this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """Lets a request through that knows the token and comes from no other site's page.

    Without a token the Host must be this machine's own, so that a name of another site that leads here (DNS
    rebinding) gets nothing.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                if scope["path"].startswith("/api"):
                    headers.setdefault("cache-control", "no-store")
            await send(message)

        problem = self._problem(scope)
        if problem is None:
            await self.app(scope, receive, guarded)
        else:
            status, sentence = problem
            await JSONResponse({"error": sentence}, status)(scope, receive, guarded)

    def knows(self, given: str) -> bool:
        """Return whether what was given is the token, in a time that does not tell how much of it was right."""
        return self.token is None or hmac.compare_digest(given.encode(), self.token.encode())

    def admits(self, headers: Headers) -> bool:
        """Return whether a request with these headers knows the token."""
        return self.knows(_given(headers))

    def _problem(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self.token is None and not is_loopback(_name(host)):
            return 421, f"this server is not known as {host!r}: use 127.0.0.1 or localhost"
        origin = headers.get("origin")
        if scope["method"] not in SAFE and origin is not None and origin.partition("://")[2] != host:
            return 403, "a page of another site may not change anything here"
        if scope["path"] not in UPLOADS:
            if "transfer-encoding" in headers:
                return 411, "say how long the body is (Content-Length)"
            if int(headers.get("content-length", "0")) > BODY_BYTES:  # the parser of HTTP lets only numbers through
                return 413, f"a body may have {BODY_BYTES} bytes here"
        if self.token is None or scope["path"] in OPEN_PATHS or self.admits(headers):
            return None
        return 401, "the token is missing or wrong: send it as 'Authorization: Bearer TOKEN'"


def _name(host: str) -> str:
    """Return a Host without its port."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def _given(headers: Headers) -> str:
    """Return the token that a request has, in its header or, as browsers do for films and events, in a cookie."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return token.strip()
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return cookie.value if cookie else ""
