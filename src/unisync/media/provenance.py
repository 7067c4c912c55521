"""What a film says of its own making: a plain tag in every container, and a signed C2PA manifest where one fits.

The one place that knows c2pa-python, which is an extra. Nothing here uses the network: no time stamp is asked for, no
remote manifest is fetched.
"""

from __future__ import annotations

import json
import mimetypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unisync import __version__
from unisync.errors import OptionError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from cryptography.x509 import Certificate

CERT, KEY = "UNISYNC_C2PA_CERT", "UNISYNC_C2PA_KEY"
"""The environment's names for a signer's files."""
SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
"""IPTC's vocabulary of digital source types, which C2PA uses too."""
HOLD_C2PA = ("mp4", "mov")
"""Of the containers that we write, those that can hold a manifest."""
PARAMETERS = "io.unisync.dub"
"""Our own part of the manifest's action."""
INSTALL = "pip install 'unisync[c2pa]'"
SETTINGS: dict[str, Any] = {
    "builder": {"thumbnail": {"enabled": False}},
    "verify": {"verify_trust": True, "remote_manifest_fetch": False, "ocsp_fetch": False},
}


@dataclass(frozen=True)
class Signer:
    """Who signs. certificate: PEM, the signer's own first, then its authorities'.  key: PEM.  alg: as COSE names it."""

    name: str
    certificate: bytes
    key: bytes
    alg: str


@dataclass(frozen=True)
class Origin:
    """What is said of a film. painted: whether its lips were changed.  signer: None for the plain tag alone."""

    method: str
    painted: bool = True
    signer: Signer | None = None

    @property
    def sentence(self) -> str:
        if self.painted:
            return "The lips and the sound of this film were changed by UniSync."
        return "The sound of this film was changed by UniSync, its lips were not."

    @property
    def facts(self) -> dict[str, Any]:
        """What a machine reads, the same in the tag and in the manifest."""
        return {
            "unisync": __version__,
            "method": self.method,
            "lips_changed": self.painted,
            "digital_source_type": SOURCE_TYPES
            + ("compositeWithTrainedAlgorithmicMedia" if self.painted else "composite"),
        }

    @property
    def comment(self) -> str:
        """The plain tag: a sentence for people, then JSON."""
        return f"{self.sentence} {json.dumps(self.facts)}"

    def kept(self, container: str) -> dict[str, str]:
        """Return, for the report, what a film in a container says of itself, and why no more."""
        if self.signer is None:
            c2pa = "none: no certificate was given"
        elif container not in HOLD_C2PA:
            c2pa = f"none: {container} cannot hold it"
        else:
            c2pa = f"signed by {self.signer.name}"
        return {"tag": self.sentence, "c2pa": c2pa}


def read_tag(comment: str) -> dict[str, Any] | None:
    """Return the facts in a plain tag; None where the comment is none of ours."""
    _, brace, rest = comment.partition("{")
    try:
        facts = json.loads(brace + rest)
    except ValueError:
        return None
    return facts if isinstance(facts, dict) and "unisync" in facts else None


def find_signer(certificate: str | None, key: str | None) -> Signer | None:
    """Return the signer by two PEM files, or by what the environment names; None where there is neither.

    Raises OptionError where a file cannot be read, is no longer valid, or does not belong to the other.
    """
    certificate, key = certificate or os.environ.get(CERT), key or os.environ.get(KEY)
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        lacking = f"c2pa_cert or {CERT}" if certificate is None else f"c2pa_key or {KEY}"
        raise OptionError(f"a C2PA manifest is signed with a certificate and its key: name {lacking} too")
    _check_installed("to sign with")
    chain, secret = _read(certificate), _read(key)
    first = _certificate(chain, certificate)
    now = datetime.now(UTC)
    if not first.not_valid_before_utc <= now <= first.not_valid_after_utc:
        raise OptionError(f"{certificate}: is valid from {first.not_valid_before_utc} to {first.not_valid_after_utc}")
    private = _private(secret, key)
    if private.public_key() != first.public_key():
        raise OptionError(f"{key}: is not the key of {certificate}")
    return Signer(_common_name(first), chain, secret, _algorithm(private, key))


def sign(film: Path, signed: Path, container: str, source: Path, origin: Origin) -> None:
    """Write `signed`, the film with a manifest in it. source: the film that it was made from.

    Raises OptionError for what c2pa-python refuses, a certificate that is not meant for signing say.
    """
    import c2pa

    assert origin.signer is not None
    signer, agent = origin.signer, {"name": "UniSync", "version": __version__}
    edited = {
        "action": "c2pa.edited",
        "softwareAgent": agent,
        "digitalSourceType": origin.facts["digital_source_type"],
        "description": origin.sentence,
        "parameters": {PARAMETERS: origin.facts},
    }
    manifest: dict[str, Any] = {
        "claim_generator_info": [agent],
        "format": f"video/{'quicktime' if container == 'mov' else container}",
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [edited]}}],
    }
    parent = {"title": source.name, "relationship": "parentOf"}
    kind = mimetypes.guess_type(source.name)[0] or "application/octet-stream"
    readable = kind in c2pa.Builder.get_supported_mime_types()
    if not readable:
        manifest["ingredients"] = [parent | {"format": kind}]
    info = c2pa.C2paSignerInfo(signer.alg, signer.certificate, signer.key, None)
    try:
        with (
            c2pa.Context(c2pa.Settings.from_dict(SETTINGS)) as context,
            c2pa.Signer.from_info(info) as sealing,
            c2pa.Builder(manifest, context) as builder,
            film.open("rb") as plain,
            signed.open("w+b") as sealed,
        ):
            builder.set_intent(c2pa.C2paBuilderIntent.EDIT)
            if readable:
                with source.open("rb") as stream:
                    builder.add_ingredient(parent, kind, stream)
            builder.sign(sealing, manifest["format"], plain, sealed)
    except c2pa.C2paError as error:
        raise OptionError(f"{signer.name} cannot sign a C2PA manifest ({error}): choose another certificate") from error


@dataclass(frozen=True)
class Manifest:
    """What a C2PA manifest in a file says. problem: why it does not hold, empty where it does.

    trusted: whether an authority that was named vouches for the signer; None where none was named.
    """

    problem: str
    signer: str = ""
    trusted: bool | None = None
    generator: str = ""
    actions: tuple[str, ...] = ()
    facts: dict[str, Any] | None = None


def read_manifest(path: Path, trust: Path | None = None) -> Manifest | None:
    """Return the manifest in a file; None where there is none, or the container cannot hold one.

    trust: PEM of authorities. Raises OptionError for a damaged one, and where c2pa-python is not installed.
    """
    _check_installed(f"for what {path.name} holds")
    import c2pa

    settings = dict(SETTINGS)
    if trust is not None:
        pem = _read(str(trust))
        _certificate(pem, str(trust))
        settings["trust"] = {"trust_anchors": pem.decode("ascii")}
    try:
        with (
            c2pa.Context(c2pa.Settings.from_dict(settings)) as context,
            c2pa.Reader(str(path), context=context) as reader,
        ):
            state, found = reader.get_validation_state(), json.loads(reader.json())
    except (c2pa.C2paError.ManifestNotFound, c2pa.C2paError.NotSupported, c2pa.C2paError.Io):
        return None
    except c2pa.C2paError as error:
        return Manifest(str(error))
    return _manifest(found, state, trust is not None)


def _manifest(found: dict[str, Any], state: str | None, named: bool) -> Manifest:
    active = found["manifests"][found["active_manifest"]]
    by = active.get("signature_info", {})
    agent = (active.get("claim_generator_info") or [{}])[0]
    failures = [
        each.get("explanation", each["code"])
        for each in found.get("validation_results", {}).get("activeManifest", {}).get("failure", [])
        if each["code"] != "signingCredential.untrusted"
    ]
    actions = [
        action
        for each in active.get("assertions", [])
        if each["label"].startswith("c2pa.actions")
        for action in each["data"].get("actions", [])
    ]
    holds = state in ("Valid", "Trusted")
    return Manifest(
        problem="" if holds else "; ".join(failures) or "it is invalid",
        signer=", ".join(filter(None, (by.get("common_name"), by.get("issuer")))),
        trusted=state == "Trusted" if named else None,
        generator=" ".join(filter(None, (agent.get("name"), agent.get("version")))),
        actions=tuple(map(_action, actions)),
        facts=next((f for a in actions if (f := a.get("parameters", {}).get(PARAMETERS))), None),
    )


def _action(action: dict[str, Any]) -> str:
    """Return an action of a manifest in words."""
    kind = str(action.get("digitalSourceType", "")).rpartition("/")[2]
    words = [action["action"], f"({kind})" if kind else "", action.get("description", "")]
    return " ".join(filter(None, words))


def _check_installed(what: str) -> None:
    try:
        import c2pa
        import cryptography
    except ImportError as error:
        raise OptionError(f"c2pa-python is missing {what}: {INSTALL}") from error
    assert c2pa and cryptography


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise OptionError(f"{path}: cannot be read ({error.strerror}); name a PEM file") from error


@contextmanager
def _named(path: str, what: str) -> Iterator[None]:
    """Name the file where it is not what it should be."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise OptionError(f"{path}: is not {what} ({error})") from error


def _certificate(pem: bytes, path: str) -> Certificate:
    from cryptography.x509 import load_pem_x509_certificates

    with _named(path, "a certificate in PEM"):
        return load_pem_x509_certificates(pem)[0]


def _private(pem: bytes, path: str) -> PrivateKeyTypes:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    with _named(path, "a private key in PEM without a passphrase"):
        return load_pem_private_key(pem, None)


def _common_name(certificate: Certificate) -> str:
    from cryptography.x509.oid import NameOID

    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else certificate.subject.rfc4514_string()


def _algorithm(key: PrivateKeyTypes, path: str) -> str:
    """Return the algorithm that C2PA uses with a key."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size in (256, 384, 521):
        return {256: "es256", 384: "es384", 521: "es512"}[key.key_size]
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(key, rsa.RSAPrivateKey):
        return "ps256"
    raise OptionError(f"{path}: is no key that C2PA signs with: P-256, P-384, P-521, Ed25519 or RSA")
