"""The commands of README.md and docs/install.md, and how each is tried alone and first.

`scripts/fresh-root --each` asks for those that a bare Debian can run; a test holds the table
against the pages, so a command that is added there is tried or left out with a reason.

    scripts/readme_commands.py checkout|package     lines "statuses<TAB>command"
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "docs/install.md")
# What begins a command in code; the rest of code names files, keys and programs.
FIRST_WORDS = frozenset(
    {"make", "sudo", "sudoedit", "systemctl", "journalctl", "agentd", "agentd-set-key"}
    | {".venv/bin/agentd", "GEMINI_API_KEY"}
)


@dataclass(frozen=True, slots=True)
class Trial:
    """How a command is tried: where, by what words, and which exit statuses are right there."""

    where: str  # "checkout", "package" (installed without recommends), or why it is not tried
    run: str = ""  # the command itself unless it needs an end or an input
    statuses: tuple[int, ...] = (0,)


CHECKOUT, PACKAGE = "checkout", "package"
BOOTED = "needs a booted systemd: make test-package"
NETWORK = "needs a repository on a server: make test-package"

TRIALS: dict[str, Trial] = {
    "make demo": Trial(CHECKOUT),
    "make test": Trial(CHECKOUT),
    "make deb": Trial(CHECKOUT, "make deb SUITES=bookworm ARCHES=amd64"),
    "make deb SUITES=bookworm ARCHES=arm64": Trial(CHECKOUT),
    "make apt-repo APT_KEY=FINGERPRINT": Trial(
        CHECKOUT, "make apt-repo SUITES=bookworm ARCHES=amd64"
    ),
    ".venv/bin/agentd demo --live": Trial(
        CHECKOUT,
        "make setup-runtime && timeout --signal=INT 20 .venv/bin/agentd demo --live </dev/null",
        (0, 124),
    ),
    ".venv/bin/agentd demo --real": Trial("needs a key of the real service"),
    "sudo apt install ./agentd_*.deb": Trial(PACKAGE, "agentd --version"),
    "sudo apt install agentd": Trial(NETWORK),
    "sudo apt install agentd=VERSION": Trial(NETWORK),
    "sudo apt update": Trial(NETWORK),
    "sudo apt upgrade": Trial(NETWORK),
    "sudo debconf-set-selections <<END": Trial(NETWORK),
    "sudo DEBIAN_FRONTEND=noninteractive apt-get install -y agentd": Trial(NETWORK),
    "sudo apt remove agentd": Trial(PACKAGE, "apt-get remove -y agentd"),
    "sudo apt purge agentd": Trial(PACKAGE, "apt-get purge -y agentd"),
    "sudo agentd-set-key": Trial(PACKAGE, "echo some-key-of-nobody | agentd-set-key"),
    "sudo agentd-set-key --google-application-credentials account.json": Trial(
        PACKAGE,
        "echo '{}' >account.json; agentd-set-key --google-application-credentials account.json",
        (0, 1),
    ),
    "agentd devices": Trial(PACKAGE, statuses=(0, 1)),
    "agentd config check": Trial(PACKAGE),
    "agentd status": Trial(PACKAGE, statuses=(1,)),
    "agentd doctor": Trial(PACKAGE, statuses=(0, 1)),
    "sudoedit /etc/agentd/agentd.toml": Trial("opens an editor"),
    "sudo dpkg-reconfigure -plow agentd": Trial(
        PACKAGE, "DEBIAN_FRONTEND=noninteractive dpkg-reconfigure -plow agentd"
    ),
    "sudo adduser $USER agentd": Trial("changes who may log in: make test-package"),
    "sudo install -m 644 agentd.gpg /usr/share/keyrings/agentd.gpg": Trial(NETWORK),
    "sudo tee /etc/apt/sources.list.d/agentd.sources <<END": Trial(NETWORK),
    "sudo systemctl restart agentd": Trial(BOOTED),
    "sudo systemctl reload agentd": Trial(BOOTED),
    "systemctl status agentd": Trial(BOOTED),
    "journalctl -u agentd -x": Trial(BOOTED),
    "journalctl -x -u agentd": Trial(BOOTED),
    "journalctl -u agentd AGENTD_EVENT=disconnected": Trial(BOOTED),
}


def commands_of(page: str) -> set[str]:
    """Return the commands in a page: lines of shell blocks, and code within sentences."""
    block: str | None = None  # the language of the block that this line is in
    lines: list[str] = []
    prose: list[str] = []
    for line in page.splitlines():
        if line.startswith("```"):
            block = None if block is not None else line[3:]
        elif block is None:
            prose.append(line)
        elif not block:
            lines.append(re.split(r"\s+#\s", line.strip())[0])
    code = re.findall(r"`([^`]+)`", "\n".join(prose))
    found = [" ".join(words.split()) for words in lines]
    found += [" ".join(words.split()) for words in code if len(words.split()) > 1]
    return {words for words in found if _is_command(words)}


def _is_command(words: str) -> bool:
    first, _, rest = words.partition(" ")
    # debconf's answers begin with the package's name.
    return first in FIRST_WORDS and not rest.startswith("agentd/")


def named() -> set[str]:
    """Return the commands in all pages."""
    return set().union(*(commands_of((ROOT / page).read_text(encoding="utf-8")) for page in PAGES))


def main() -> int:
    """Print the trials of one place."""
    for command, trial in TRIALS.items():
        if trial.where == sys.argv[1]:
            print(",".join(map(str, trial.statuses)), trial.run or command, sep="\t")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
