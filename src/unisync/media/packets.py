"""Decoding what can be decoded of a stream that may be damaged."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import av
from av.container import InputContainer
from av.stream import Stream

log = logging.getLogger(__name__)


def decoded(container: InputContainer, stream: Stream, what: str) -> Iterator[tuple[av.Packet[Any], list[Any]]]:
    """Yield each packet with its frames, the empty one at the end too; damaged packets are skipped with one warning.

    what: whose packets they are, for the warning.
    """
    broken = 0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError:
            packet, broken = None, broken + 1
        if packet is None:
            break
        try:
            frames = packet.decode()
        except av.FFmpegError:
            broken += 1
            continue
        yield packet, frames
    if broken:
        log.warning("%s: %d damaged packets were skipped.", what, broken)
