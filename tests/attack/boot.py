"""The file on the boot partition: the key is never lost, never left behind, never lied about."""

from __future__ import annotations

import contextlib
import io
import random
import tempfile
from pathlib import Path

from agentd.config import files as config_files
from agentd.errors import ConfigError
from agentd.provision import firstboot
from tests.attack import settings_files, values
from tests.attack.target import Case, Step, assert_plain

KEY = "AIzaBootKeyOfNobody-0123456789abcdefghi"
OLD = "AIzaTheKeyThatWasThere-0123456789abcdef"
WAYS = (
    '[credentials]\ngemini_api_key = "{key}"', 'credentials.gemini_api_key = "{key}"',
    'credentials = {{ gemini_api_key = "{key}" }}', '["credentials"]\n"gemini_api_key" = "{key}"',
    '[credentials]\n# was {key}\ngemini_api_key = "{key}"', "[live]\napi_key = '{key}'",
    "[credentials]\ngemini_api_key = '''\n{key}'''", '[credential]\ngemini_api_key = "{key}"',
    '[credentials]\ngemini_api_kee = "{key}"', 'gemini_api_key = "{key}"', "{key}",
    '[credentials]\ngemini_api_key = "{key}"\ngemini_api_key = "{key}"',
    '[credentials]\ngemini_api_key = "{key}', '[ credentials ]\r\ngemini_api_key="{key}"\r',
    '[credentials]\ngemini_api_key = "{key}"\n[live]\nvoice = "Kore"',
    'x = """\n[credentials]\ngemini_api_key = "{key}"\n"""',
    '[credentials]\ngemini_api_key = "AIz\\u0061BootKeyOfNobody-0123456789abcdefghi"',
)  # fmt: skip


class Boot:
    """agentd.toml on the card."""

    name = "boot"
    what = "files on the boot partition"

    def make(self, rng: random.Random) -> list[Step]:
        """Return the lines of a file with a key in it, written in one of many ways."""
        written = rng.choice(WAYS).format(key=KEY).split("\n")
        around = settings_files.lines(rng) if rng.random() < 0.6 else []
        case = around + written if rng.random() < 0.5 else written + around
        if rng.random() < 0.2:
            case = values.spoilt("\n".join(case), rng).split("\n")
        return list(case)

    def check(self, case: Case) -> int:
        """Boot with it."""
        text = "\n".join(step for step in case if isinstance(step, str))
        with tempfile.TemporaryDirectory() as folder:
            check_boot(Path(folder), text.encode("utf-8", "surrogatepass"))
        return 1


def check_boot(root: Path, data: bytes) -> None:
    """Import a file, and compare what is on the card, in the store and in the report."""
    card, store = root / "boot/firmware", root / "etc/credstore"
    for place in (card, store, root / "etc/agentd/conf.d", root / "run", root / "var"):
        place.mkdir(parents=True)
    (card / "agentd.toml").write_bytes(data)
    kept = store / "gemini-api-key"
    kept.write_text(OLD)
    (root / "etc/agentd/agentd.toml").write_text("[gpio]\nbutton = 5\n")
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        status = firstboot.main(root)
    assert status in {0, 1}, f"exit status {status}"
    report = card / firstboot.REPORT
    words = report.read_text("utf-8") if report.exists() else ""
    assert bool(words) == bool(status), "a failure without a report, or a report of none"
    _check_key(card, kept.read_text(), data, root)
    _check_words(words, kept.read_text())
    for text, what in ((out.getvalue(), "the journal"), (words, "the report")):
        for line in text.split("\n"):
            assert_plain(line.rstrip("\r"), settings_files.LINE_CHARS, what)
        assert KEY not in text, f"{what} has the key in it"
    with contextlib.suppress(ConfigError):
        config_files.load(root / "etc/agentd/agentd.toml", required=True)
        return
    raise AssertionError("the settings that were taken cannot be used with those that were there")


def _check_words(words: str, stored: str) -> None:
    """Hold what the report says of the key against where it is."""
    if words:
        assert ("is stored in the device" in words) == (stored != OLD), words
        assert ("No key was taken" in words) == (stored == OLD), words


def _check_key(card: Path, stored: str, before: bytes, root: Path) -> None:
    left = [p.name for p in card.iterdir() if KEY.encode() in p.read_bytes()]
    if KEY.encode() in before:
        assert stored == KEY or left, "the key is lost"
    assert stored in {OLD, KEY} or KEY.encode() not in before, "another key is stored"
    if stored == KEY:
        assert left == [], f"the key is stored, and on the card in {left}"
    conf = [p.name for p in (root / "etc/agentd").rglob("*.toml") if KEY in p.read_text("utf-8")]
    assert conf == [], f"the key is in {conf}"
