"""Whose certificates are trusted: SSL_CERT_FILE and SSL_CERT_DIR, looked at before they are used.

OpenSSL says "No such file or directory" of them in mid-dial, which reads like a dead network, and
nothing at all of a folder that helps nobody.
"""

from __future__ import annotations

import contextlib
import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path

from agentd.errors import AgentdError
from agentd.named_files import FileRefused, read_bytes

FILE, DIRECTORY = "SSL_CERT_FILE", "SSL_CERT_DIR"
MAX_BYTES = 16 << 20  # Debian's whole bundle has 0.2 MB
_HASHED = re.compile(r"[0-9a-f]{8}\.\d+")  # what OpenSSL looks for (openssl-rehash(1))


class TrustError(AgentdError):
    """A variable names certificates that cannot be used; the message names it and the file."""


def tls_context(environ: Mapping[str, str] | None = None) -> ssl.SSLContext:
    """Return a context that trusts what the SDK trusts: SSL_CERT_FILE, else certifi.

    Without SSL_CERT_FILE it trusts what this machine trusts as well: a household's own proxy.

    Raises:
        TrustError: SSL_CERT_FILE cannot be used.
    """
    env = os.environ if environ is None else environ
    own = env.get(FILE, "")
    if own:
        context = ssl.create_default_context(cadata=_certificates(Path(own)))
    else:
        context = ssl.create_default_context(cafile=_certifi())
        context.load_default_certs()
    for folder in _folders(env):
        with contextlib.suppress(OSError):  # it may add trust; what it lacks is told when it counts
            context.load_verify_locations(capath=folder)
    return context


def _certifi() -> str:
    import certifi

    return certifi.where()


def _certificates(path: Path) -> str:
    try:
        data = read_bytes(path, MAX_BYTES)
    except FileRefused as error:
        raise TrustError(f"{FILE}={path} {error.problem}") from error
    if not data:
        raise TrustError(f"{FILE}={path} is empty")
    return _pem(path, data)


def _pem(path: Path, data: bytes) -> str:
    """Return the certificates in `data`, each tried alone: a key beside them does not matter."""
    found = re.findall(
        r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----",
        data.decode("latin-1"),
        re.DOTALL,
    )
    if not found:
        raise TrustError(f"{FILE}={path} holds no certificate in PEM form (BEGIN CERTIFICATE)")
    text = "\n".join(found).encode("ascii", "replace").decode("ascii")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError) as error:
        raise TrustError(f"{FILE}={path} holds a damaged certificate") from error
    return text


def _folders(env: Mapping[str, str]) -> list[str]:
    return [folder for folder in env.get(DIRECTORY, "").split(os.pathsep) if folder]


def directory_trouble(environ: Mapping[str, str] | None = None) -> str:
    """Return why a folder of SSL_CERT_DIR adds no trust, or nothing.

    That is the reason for a certificate that nothing trusts, and for nothing else: certificates
    from elsewhere are good without it.
    """
    for folder in _folders(os.environ if environ is None else environ):
        try:
            names = [path.name for path in Path(folder).iterdir()]
        except OSError as error:
            return f"{DIRECTORY}={folder} cannot be read ({error.strerror})"
        if not any(_HASHED.fullmatch(name) for name in names):
            return f"{DIRECTORY}={folder} holds no certificate by its hash: run `openssl rehash`"
    return ""
