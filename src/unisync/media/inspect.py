"""Says what a file tells of its making: verified, present, damaged or absent."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from unisync.errors import MediaError, OptionError
from unisync.media.probe import open_input
from unisync.media.provenance import Manifest, read_manifest, read_tag

State = Literal["verified", "present", "damaged", "absent"]


@dataclass(frozen=True)
class Inspected:
    """What was found in a file.

    state: verified, a C2PA manifest holds, and a named authority vouches for its signer if any was named; present,
    something says how the film was made and nothing proves it; damaged, a manifest does not hold; absent, nothing.
    tag: the facts of the plain tag.  why: the state in a sentence.
    """

    file: str
    state: State
    why: str
    manifest: Manifest | None
    tag: dict[str, Any] | None

    def to_dict(self) -> dict[str, Any]:
        """Return every field as plain values."""
        return asdict(self)

    @property
    def lines(self) -> list[str]:
        """What a person reads."""
        said = [f"{self.file}: {self.state}: {self.why}"]
        if self.manifest and self.manifest.generator:
            said.append(f"  C2PA, by {self.manifest.generator}: {'; '.join(self.manifest.actions)}")
        if self.tag:
            said.append(f"  tag: {', '.join(f'{name} {value}' for name, value in self.tag.items())}")
        return said


def inspect(path: Path, trust: Path | None = None) -> Inspected:
    """Read what a film, picture or sound says of its making.

    trust: authorities (PEM), one of which must vouch for the signer. Raises MediaError for a file that cannot be read,
    and OptionError for a damaged `trust`, and where only a manifest could tell and c2pa-python is not installed.
    """
    unread: MediaError | None = None
    tag: dict[str, Any] | None = None
    try:
        tag = _tag(path)
    except MediaError as error:
        unread = error
        if not path.is_file():
            raise
    try:
        manifest = read_manifest(path, trust)
    except OptionError as error:
        if tag is None or trust is not None:
            raise
        return Inspected(str(path), "present", f"the plain tag says so and proves nothing; {error}", None, tag)
    if unread is not None and (manifest is None or not manifest.signer):
        raise unread
    state, why = _judge(manifest, tag)
    return Inspected(str(path), state, why, manifest, tag)


def _judge(manifest: Manifest | None, tag: dict[str, Any] | None) -> tuple[State, str]:
    if manifest is None:
        if tag is None:
            return "absent", "neither a C2PA manifest nor our plain tag is in it"
        return "present", "the plain tag says so and nothing proves it"
    if manifest.problem:
        return "damaged", f"its C2PA manifest does not hold: {manifest.problem}"
    if manifest.trusted is False:
        return "present", f"its C2PA manifest is whole, but no authority that you named vouches for {manifest.signer}"
    whole = "its C2PA manifest holds, and the film is as it was signed"
    if manifest.trusted:
        return "verified", f"{whole} by {manifest.signer}, for whom an authority that you named vouches"
    return "verified", f"{whole} by {manifest.signer}, by the signer's own word (--trust names who must vouch)"


def _tag(path: Path) -> dict[str, Any] | None:
    with open_input(path) as container:
        names = {name.lower(): value for name, value in container.metadata.items()}
        return read_tag(names.get("comment", ""))
