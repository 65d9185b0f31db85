"""Import `agentd.toml` from the boot partition: settings to /etc/agentd/conf.d, keys to the store.

The key goes first, whatever becomes of the settings: it is stored, then covered on the card where
it stands. Settings are taken only if the device can run with them and all that it has already.
Every step may be the last one before the power goes; the next boot does the same again and comes
to the same end. What became of the file, and of the key in it, is written next to it, where the
person with the card reader will look.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agentd.config.files import MAX_FILE_BYTES, load
from agentd.errors import AgentdError, ConfigError
from agentd.named_files import FileRefused, parse_toml, read_bytes
from agentd.provision import bootfile
from agentd.provision.bootfile import FILE, BootFileParts, BootFileRefused, FileText
from agentd.provision.disk import Disk
from agentd.provision.keystore import KeyStore, StoreFailed
from agentd.text import safe_text

# Raspberry Pi OS 12 and newer, then older ones.
BOOT_FILES: Final = (Path("boot/firmware/agentd.toml"), Path("boot/agentd.toml"))
REPORT: Final = "agentd-error.txt"
DONE: Final = "agentd.imported.toml"
SETTINGS: Final = Path("etc/agentd/conf.d/10-boot.toml")

MAX_LINES: Final = 40
MAX_LINE: Final = 400
"""Of the report: a file that is wrong everywhere shall not fill the card."""


@dataclass(slots=True)
class ImportOutcome:
    """What became of a boot file so far; the report is made from nothing else."""

    problems: list[str] = field(default_factory=list)
    stored: tuple[str, ...] = ()
    is_covered: bool = False
    left: tuple[str, ...] = ()
    settings_taken: bool = False

    def report(self) -> list[str]:
        """Return the sentences for the person with the card; none if there is nothing to say."""
        if not self.problems and not self.left:
            return []
        verdict = "took its settings, but" if self.settings_taken else "did not take its settings"
        if not self.problems:
            verdict = "took agentd.toml from this card, but"
        head = f"agentd read agentd.toml on this card and {verdict}:"
        lines = [head if self.problems else f"agentd {verdict}:", ""]
        shown = [safe_text(line, MAX_LINE) for text in self.problems for line in text.splitlines()]
        more = [f"(and {len(shown) - MAX_LINES} more)"] if len(shown) > MAX_LINES else []
        lines += [*shown[:MAX_LINES], *more, *([""] if shown else [])]
        return [*lines, *self._about_the_key()]

    def _about_the_key(self) -> list[str]:
        told = []
        if self.stored:
            what = f"The key ({', '.join(self.stored)}) is stored in the device"
            told.append(
                f"{what}, and covered by # on this card."
                if self.is_covered
                else f"{what}, but it is still on this card, too: delete it here."
            )
        else:
            told.append("No key was taken from this card.")
        if self.left:
            shown = ", ".join(self.left[:10])
            told.append(f"What looks like a key is still on this card: {shown}.")
        return told


class Import:
    """One boot file on its way into the device whose root directory is `root`."""

    def __init__(self, boot: Path, store: KeyStore, disk: Disk, root: Path = Path("/")) -> None:
        self._boot = boot
        self._store = store
        self._disk = disk
        self._settings_file = root / SETTINGS
        self._main_file = root / "etc/agentd/agentd.toml"
        self.outcome = ImportOutcome()

    def run(self) -> ImportOutcome:
        """Import what can be imported; whatever goes wrong is in the outcome."""
        try:
            self._run()
        except (AgentdError, OSError) as error:
            self._problem(_words(error))
        except Exception as error:  # noqa: BLE001 - a report on the card, whatever it was
            self._problem(f"it cannot be used ({type(error).__name__}: {error})")
        return self.outcome

    def _problem(self, text: str) -> None:
        self.outcome.problems.append(text)

    def _run(self) -> None:
        if self._boot.is_symlink():
            raise BootFileRefused("it is a link, not a file")
        raw = read_bytes(self._boot, MAX_FILE_BYTES)
        # Until it is known better, all that looks like a key is there.
        self.outcome.left = bootfile.suspects(raw.decode("utf-8", errors="replace"))
        text = bootfile.decode(raw)
        self.outcome.left = bootfile.suspects(text.characters)
        parts = bootfile.take_apart(text.characters, self._store.known())
        self.outcome.problems += parts.problems
        self._take_keys(parts, text)
        if parts.problems:
            return
        if self._take_settings(parts.settings):
            self._disk.rename(self._boot, self._boot.with_name(DONE))

    def _take_keys(self, parts: BootFileParts, text: FileText) -> None:
        for name, key in parts.credentials.items():
            self._store.put(name, key.encode())
            self.outcome.stored += (name,)
        if parts.scrubbed != text.characters:
            self._cover(parts, text)
        if parts.credentials:
            self._store.retire_plain()

    def _cover(self, parts: BootFileParts, text: FileText) -> None:
        try:
            self._disk.overwrite(self._boot, text.encode(parts.scrubbed))
        except OSError as error:
            self._problem(f"it cannot be written: {_words(error)}")
            return
        self.outcome.is_covered = True
        self.outcome.left = bootfile.suspects(parts.scrubbed)

    def _take_settings(self, settings: str) -> bool:
        """Check the settings with all that is there, then put them there."""
        tables = parse_toml(FILE, settings)
        if not tables:
            return True
        try:
            load(self._main_file, required=False, candidate=(self._settings_file, tables))
        except ConfigError as error:
            on_card = str(self._settings_file)
            self._problem("\n".join(str(p).replace(on_card, str(FILE)) for p in error.problems))
            return False
        header = (
            f"# Imported from {self._boot} at boot. Edit it here; `agentd config show` shows all.\n"
        )
        self._disk.make_folder(self._settings_file.parent, 0o755)
        self._disk.replace(self._settings_file, (header + settings).encode(), 0o644)
        self.outcome.settings_taken = True
        return True


def _words(error: Exception) -> str:
    if isinstance(error, FileRefused):
        return f"it {error.problem}"
    if isinstance(error, StoreFailed):
        return f"the key is not stored: {error}"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def publish(lines: Sequence[str], path: Path, disk: Disk) -> None:
    """Write the report, or remove the one of an earlier time; a card that is full keeps neither."""
    try:
        if lines:
            text = "\r\n".join([*lines, "", "Correct it and start the device again.", ""])
            disk.replace(path, text.encode(), 0o644)
        else:
            disk.remove(path)
    except OSError as error:
        print(f"{path} cannot be written: {_words(error)}", file=sys.stderr)


def main(root: Path = Path("/"), disk: Disk | None = None) -> int:
    """Import the first boot file there is; return 0 if there is nothing to report."""
    disk = disk or Disk()
    boot = next((path for name in BOOT_FILES if _exists(path := root / name)), None)
    if boot is None:
        return 0
    work = Import(boot, KeyStore(disk, root=root), disk, root)
    outcome = work.run()
    lines = outcome.report()
    for line in filter(None, lines):
        print(line, file=sys.stderr)
    if outcome.stored:
        print(f"{', '.join(outcome.stored)} stored")
    if outcome.settings_taken:
        print(f"settings imported into {root / SETTINGS}")
    publish(lines, boot.with_name(REPORT), disk)
    return 1 if lines else 0


def _exists(path: Path) -> bool:
    return path.is_symlink() or path.exists()
