"""Makes a certificate to try C2PA manifests with. It vouches for nobody, and its names say so.

`python tools/make_test_certificate.py FOLDER` writes certificate.pem (the signer's, then its authority's), key.pem and
authority.pem, which `unisync inspect --trust` takes.
"""

from __future__ import annotations

import datetime
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAYS = 90


def make(folder: Path, days: int = DAYS) -> tuple[Path, Path, Path]:
    """Write certificate, key and authority into a folder and return their paths. days: below 0, one that has expired."""
    folder.mkdir(parents=True, exist_ok=True)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _signed("UniSync TEST authority (vouches for nobody)", None, authority_key, authority_key, days)
    leaf = _signed("UniSync TEST signer (vouches for nobody)", authority, key, authority_key, days)
    names = folder / "certificate.pem", folder / "key.pem", folder / "authority.pem"
    pem = [each.public_bytes(serialization.Encoding.PEM) for each in (leaf, authority)]
    names[0].write_bytes(b"".join(pem))
    names[2].write_bytes(pem[1])
    names[1].touch(0o600)
    names[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return names


def _signed(
    name: str,
    issuer: x509.Certificate | None,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    days: int,
) -> x509.Certificate:
    """Return a certificate: an authority's where it has no issuer, else a signer's as C2PA wants it."""
    now = datetime.datetime.now(datetime.UTC)
    begin, end = sorted((now - datetime.timedelta(days=1), now + datetime.timedelta(days=days)))
    subject = _name(name)
    authority = issuer is None
    usage = x509.KeyUsage(
        digital_signature=not authority, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=authority, crl_sign=authority, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if not authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "UniSync TEST"),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: make_test_certificate.py FOLDER")
    for path in make(Path(sys.argv[1])):
        print(f"written: {path}")
