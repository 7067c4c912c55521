"""What a request cannot have, as HTTP says it: our one sentence, in JSON."""

from __future__ import annotations

from unisync.errors import UnisyncError


class Refused(UnisyncError):  # noqa: N818 - it answers a request, nothing went wrong here
    """A request that is answered with a status of 4xx or 507."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def missing(kind: str, name: str) -> Refused:
    """Return what is said of an id that nothing has."""
    return Refused(404, f"there is no {kind} {name!r}: it was deleted, or never was")
