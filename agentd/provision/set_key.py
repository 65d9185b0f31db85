"""`agentd-set-key`: put a key into the credential store that the unit reads.

No setting, log or process list ever shows it. The new key is in place before an old one goes, and
what fails leaves the old one working.
"""

from __future__ import annotations

import argparse
import getpass
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agentd.config.credentials import API_KEY, MAX_BYTES, SERVICE_ACCOUNT
from agentd.errors import EXIT_FAILURE, EXIT_OK, AgentdError
from agentd.named_files import FileRefused, read_bytes, read_json
from agentd.provision.disk import Disk
from agentd.provision.keystore import CommandFailed, KeyStore, StoreFailed
from agentd.text import safe_text

_KEY: Final = re.compile(r"[A-Za-z0-9._~+/=-]+")
_ABOUT: Final = """\
Store the Gemini API key, read from the terminal or from standard input, in
/etc/credstore/gemini-api-key, readable by root only, and restart agentd. Where
the unit takes encrypted credentials, it is encrypted to this machine instead."""


class NothingChanged(AgentdError):
    """What was given cannot be stored."""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="agentd-set-key",
        description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--google-application-credentials",
        metavar="FILE",
        type=Path,
        help="store a Vertex AI service account (JSON) instead",
    )
    either.add_argument("--remove", action="store_true", help="delete both")
    return parser


def main(argv: Sequence[str] | None = None, store: KeyStore | None = None) -> int:
    """Store or remove, then have the daemon take it; return the exit status."""
    arguments = build_parser().parse_args(argv)
    try:
        _act(arguments, store or _own_store())
    except NothingChanged as error:
        return _say(f"{error}; nothing is changed")
    except StoreFailed as error:
        return _say(str(error))
    except CommandFailed as error:
        return _say(f"stored, but agentd was not restarted: {error}")
    return EXIT_OK


def _own_store() -> KeyStore:
    if os.geteuid() != 0:
        raise NothingChanged("run it as root, or with sudo")
    os.umask(0o077)
    return KeyStore(Disk())


def _act(arguments: argparse.Namespace, store: KeyStore) -> None:
    if arguments.remove:
        store.remove_all()
    else:
        account: Path | None = arguments.google_application_credentials
        name = API_KEY if account is None else SERVICE_ACCOUNT
        secret = read_key() if account is None else read_account(account)
        try:
            path = store.put(name, secret)
        except StoreFailed as error:
            raise NothingChanged(str(error)) from None
        print(f"stored in {path}", file=sys.stderr)
        # A daemon that runs keeps what it has when this fails: the unit would not start anew.
        store.retire_plain()
    store.restart_daemon()


def read_key() -> bytes:
    """Return the key that is typed without being shown, or the first line of standard input.

    Raises:
        NothingChanged: there is none, or it has marks that no key has.
    """
    if sys.stdin.isatty():
        text = getpass.getpass("Gemini API key: ", sys.stderr)
    else:
        text = sys.stdin.buffer.readline(MAX_BYTES).decode(errors="replace")
    key = text.strip()
    if not key:
        raise NothingChanged("no key was given")
    if not _KEY.fullmatch(key):
        raise NothingChanged("a key has no spaces, quotes or other marks")
    return key.encode()


def read_account(path: Path) -> bytes:
    """Return a service account's file.

    Raises:
        NothingChanged: it cannot be read, or is no JSON object.
    """
    try:
        account, content = read_json(path, MAX_BYTES), read_bytes(path, MAX_BYTES)
    except FileRefused as error:
        raise NothingChanged(str(error)) from None
    if not isinstance(account, dict):
        raise NothingChanged(f"{path} is no service account: not a JSON object")
    return content


def _say(text: str) -> int:
    print(f"agentd-set-key: {safe_text(text, 600)}", file=sys.stderr)
    return EXIT_FAILURE
