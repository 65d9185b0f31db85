"""A certificate authority of the emulator's own, and a server certificate signed by it.

Made at start and thrown away; the extensions satisfy ``VERIFY_X509_STRICT``, which Python 3.13
turns on by default.  Works with cryptography 38 (Debian bookworm) and newer.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

KINDS = ("valid", "expired", "not_yet_valid", "wrong_host", "unknown_ca")
"""What kind of certificate is served."""

_LIFETIME = dt.timedelta(days=825)


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA: its key, its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        """Return the certificate as PEM, for a client's trust store."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def make_authority(now: dt.datetime) -> Authority:
    """Make a CA valid from a day before ``now``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("agentd emulator CA")
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + 2 * _LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(key, certificate)


def alternative_names(hosts: Iterable[str]) -> list[x509.GeneralName]:
    """Turn host names and addresses into subject alternative names."""
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(hosts):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names


def make_leaf(
    authority: Authority, hosts: Iterable[str], now: dt.datetime, kind: str = "valid"
) -> bytes:
    """Return a server certificate and its key as PEM.

    ``kind`` is one of :data:`KINDS`; ``unknown_ca`` must be given a CA nobody trusts.
    """
    start, end = now - dt.timedelta(hours=12), now + _LIFETIME
    if kind == "expired":
        start, end = now - dt.timedelta(hours=20), now - dt.timedelta(hours=1)
    elif kind == "not_yet_valid":
        start = now + dt.timedelta(days=30)
    names = alternative_names(["emulator.invalid"] if kind == "wrong_host" else hosts)
    key = ec.generate_private_key(ec.SECP256R1())
    issuer_key = authority.certificate.public_key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name("agentd emulator"))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key),  # type: ignore[arg-type]
            critical=False,
        )
        .sign(authority.key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM)
        + authority.pem
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def server_context() -> ssl.SSLContext:
    """Return a server-side TLS context without a certificate yet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def load_pem(context: ssl.SSLContext, pem: bytes, folder: Path) -> None:
    """Serve this certificate and key on new connections of the context."""
    path = folder / "server.pem"
    path.touch(mode=0o600)
    path.write_bytes(pem)
    try:
        context.load_cert_chain(path)
    finally:
        path.unlink()
