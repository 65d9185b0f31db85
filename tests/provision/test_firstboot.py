"""The boot partition on its way into a device: what is told, what is kept, what is covered."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from agentd.provision import firstboot
from agentd.provision.disk import Disk
from agentd.provision.firstboot import Import, ImportOutcome
from agentd.provision.keystore import CommandFailed, KeyStore

KEY = "AIzaTestKeyOfNobody-0123456789abcdefghi"
OLD_KEY = "AIzaAnotherTestKey-0123456789abcdefghij"
COVER = "#" * len(KEY)
WHOLE = f'[credentials]\ngemini_api_key = "{KEY}" # {KEY}\n[gpio]\nstatus_led = 6\n'


class PowerCut(BaseException):
    """The plug is pulled."""


class Device:
    """A device's root directory with a boot partition."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.boot = root / "boot/firmware/agentd.toml"
        self.boot.parent.mkdir(parents=True)
        self.conf = root / "etc/agentd/conf.d"
        self.conf.mkdir(parents=True)
        self.settings = self.conf / "10-boot.toml"
        self.key = root / "etc/credstore/gemini-api-key"

    def put(self, content: str | bytes) -> None:
        self.boot.write_bytes(content.encode() if isinstance(content, str) else content)

    def start(self, disk: Disk | None = None) -> int:
        return firstboot.main(self.root, disk)

    @property
    def report(self) -> str:
        path = self.boot.with_name("agentd-error.txt")
        return path.read_text(encoding="utf-8") if path.exists() else ""

    @property
    def card(self) -> str:
        """All that is on the card."""
        files = sorted(path for path in self.boot.parent.iterdir() if path.is_file())
        return "".join(path.read_bytes().decode("latin-1") for path in files)


@pytest.fixture
def device(tmp_path: Path) -> Device:
    """A device with a button on pin 5."""
    device = Device(tmp_path)
    (tmp_path / "etc/agentd/agentd.toml").write_text("[gpio]\nbutton = 5\n")
    return device


def test_settings_and_key_are_taken(device: Device) -> None:
    """The key is root's alone, the card has none of it, and nothing is left to import."""
    device.put(WHOLE)
    assert device.start() == 0
    assert device.key.read_text() == KEY
    assert device.key.stat().st_mode & 0o777 == 0o600
    assert device.key.parent.stat().st_mode & 0o777 == 0o700
    assert "status_led = 6" in device.settings.read_text()
    assert KEY not in device.card
    assert sorted(p.name for p in device.boot.parent.iterdir()) == ["agentd.imported.toml"]


def test_nothing_to_do_is_no_error(device: Device) -> None:
    """Most boots."""
    assert device.start() == 0
    assert device.report == ""


def test_settings_that_would_stop_the_daemon_are_refused_with_those_it_has(device: Device) -> None:
    """Right by itself, wrong beside the button that is there: the old settings stay in force."""
    device.settings.write_text("[gpio]\nmute_led = 7\n")
    device.put("[gpio]\nstatus_led = 5\n")
    assert device.start() == 1
    assert "pin 5 is gpio" in device.report
    assert "agentd.toml: gpio." in device.report or "agentd.toml: gpio.button" in device.report
    assert device.settings.read_text() == "[gpio]\nmute_led = 7\n"
    assert "status_led" in device.boot.read_text()


def test_a_later_file_of_the_device_is_part_of_the_check(device: Device) -> None:
    """It wins over the card's, and what it sets is there."""
    (device.conf / "50-mine.toml").write_text("[gpio]\nmute_led = 6\n")
    device.put("[gpio]\nstatus_led = 6\n")
    assert device.start() == 1
    assert "50-mine.toml" in device.report


def test_what_replaces_the_settings_of_an_earlier_card_is_checked_without_them(
    device: Device,
) -> None:
    """The earlier card's light was on the pin of the new one's mute light."""
    device.settings.write_text("[gpio]\nstatus_led = 6\n")
    device.put("[gpio]\nmute_led = 6\n")
    assert device.start() == 0
    assert "status_led" not in device.settings.read_text()


def plain(text: str | bytes) -> str:
    """Return what a person sees who looks for a key, in whatever encoding."""
    return (text if isinstance(text, str) else text.decode("latin-1")).replace("\0", "")


STORED = "The key (gemini-api-key) is stored in the device, and covered by # on this card."
NONE_TAKEN = "No key was taken from this card."


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            f"[credentials]\ngemini_api_key = '{KEY}'\n[vad]\nhangover_ms = 5\n",
            [STORED, "vad.hang"],
        ),
        (
            f"[credentials]\ngemini_api_key = '{KEY}'\nother = 'abcdefgh'\n",
            [STORED, "credentials.other"],
        ),
        (
            f"[credentials]\ngemini_api_key = '{KEY}'\n# {OLD_KEY}\n",
            [STORED, "still on this card: line 3"],
        ),
        (f"[credentials]\ngemini_key = '{KEY}'\n", [NONE_TAKEN, "still on this card: line 2"]),
        (f"[credential]\ngemini_api_key = '{KEY}'\n", [NONE_TAKEN, "still on this card: line 2"]),
        (
            f"[live]\napi_key = '{KEY}'\n",
            [NONE_TAKEN, "still on this card: line 2", "live.api_key"],
        ),
        (f"[credentials]\ngemini_api_key = '{KEY}'\nx = \n", [NONE_TAKEN, "line 2", "TOML"]),
        (
            f"[credentials]\ngemini_api_key = '{KEY}'\ngemini_api_key = '{KEY}'\n",
            [NONE_TAKEN, "line 2, line 3"],
        ),
        (f'credentials = {{gemini_api_key = """\\\n  {KEY}"""}}\n[x]\n', [STORED, "unknown"]),
        (f"[credentials]\ngemini_api_key = '{KEY}'\na = {'9' * 5000}\n", [NONE_TAKEN, "digits"]),
        (f"[credentials]\ngemini_api_key = '{KEY}'\na = {'[' * 9000}\n", [NONE_TAKEN, "TOML"]),
        (f"gemini_api_key = '{KEY}'\xff".encode("latin-1"), [NONE_TAKEN, "UTF-8", "line 1"]),
        (f"gemini_api_key = '{KEY}'".encode("utf-16-le"), [NONE_TAKEN, "UTF-8"]),
        (b"x" * (1 << 21), [NONE_TAKEN, "larger"]),
        ("[vad]\nhangover_ms = 5\n", [NONE_TAKEN, "vad.hangover_ms"]),
        ("['\x1b]0;evil\x07']\na = 1\n", [NONE_TAKEN, "TOML"]),
        ('["\\u001b]0;evil\\u0007"]\na = 1\n', [NONE_TAKEN, "unknown key"]),
        ("a" * 60_000 + " = 1\n", [NONE_TAKEN, "unknown key"]),
    ],
)
def test_the_report_says_what_became_of_the_key(
    device: Device, text: str | bytes, told: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    """What is reported stored is stored and covered; what is reported left is there.

    No report, on the card or in the journal, has the key or a control character in it.
    """
    device.put(text)
    device.start()
    report = device.report
    journal = capfd.readouterr()
    for words in told:
        assert words in report
    assert device.key.exists() == (STORED in report)
    had_key = KEY in plain(text)
    assert (KEY in plain(device.card.encode("latin-1"))) == (had_key and NONE_TAKEN in report)
    for told_text in (report.replace("\r\n", "\n"), journal.err, journal.out):
        assert KEY not in told_text
        assert all(char.isprintable() or char == "\n" for char in told_text)
        assert len(told_text) < 8000


@pytest.mark.parametrize("kind", ["folder", "pipe", "link", "broken link"])
def test_what_is_no_file_is_told_and_nobody_waits(
    device: Device, kind: str, tmp_path: Path
) -> None:
    """A pipe without a writer would stop the boot, a link show another file's content."""
    secret = tmp_path / "shadow"
    secret.write_text("root:secret")
    match kind:
        case "folder":
            device.boot.mkdir()
        case "pipe":
            os.mkfifo(device.boot)
        case "link":
            device.boot.symlink_to(secret)
        case _:
            device.boot.symlink_to(tmp_path / "nowhere")
    assert device.start() == 1
    assert NONE_TAKEN in device.report
    assert "secret" not in device.report


def test_an_error_that_nobody_expected_is_a_report(device: Device) -> None:
    """Whatever it is, the person with the card reader finds it."""

    class Broken(KeyStore):
        def known(self) -> tuple[str, ...]:
            raise ZeroDivisionError("by zero")

    device.put(WHOLE)
    outcome = Import(device.boot, Broken(Disk()), Disk(), device.root).run()
    assert "ZeroDivisionError" in "\n".join(outcome.report())
    assert NONE_TAKEN in outcome.report()


def test_a_card_that_cannot_be_written_is_told_with_the_key_still_on_it(device: Device) -> None:
    """The key is in the device; the report does not say that the card is clean."""

    class ReadOnly(Disk):
        def overwrite(self, path: Path, content: bytes) -> None:
            raise OSError(30, "Read-only file system", str(path))

    device.put(WHOLE)
    assert device.start(ReadOnly()) == 1
    assert device.key.read_text() == KEY
    assert "is still on this card, too: delete it" in device.report
    assert "What looks like a key is still on this card: line 2." in device.report


def test_a_report_that_cannot_be_written_is_in_the_journal(
    device: Device, capfd: pytest.CaptureFixture[str]
) -> None:
    """Something is in its way."""
    device.boot.with_name("agentd-error.txt").mkdir()
    device.put("x = ")
    assert device.start() == 1
    told = capfd.readouterr().err
    assert "TOML" in told
    assert "agentd-error.txt cannot be written" in told


def test_many_problems_are_counted_rather_than_listed() -> None:
    """The report stays a page."""
    lines = ImportOutcome(problems=[f"problem {n}" for n in range(100)]).report()
    assert "(and 60 more)" in lines
    assert "problem 39" in lines
    assert "problem 40" not in lines


# ── the plug is pulled ────────────────────────────────────────────────────────────────────────


def pulled(number: int, seen: list[str]) -> Callable[[str], None]:
    """Return a hook that cuts the power before the step of this number."""

    def at_step(step: str) -> None:
        if len(seen) == number:
            raise PowerCut(step)
        seen.append(step)

    return at_step


def steps_of(device: Device) -> list[str]:
    """Return the steps of an import that nothing disturbs."""
    seen: list[str] = []
    device.put(WHOLE)
    device.start(Disk(seen.append))
    return seen


def test_the_new_key_is_on_the_disk_before_the_card_loses_it(tmp_path: Path) -> None:
    """Its bytes, its name, then the card's; each is synced before the next begins."""
    steps = steps_of(Device(tmp_path))
    assert [step for step in steps if "10-boot" not in step] == [
        "sync folder etc",
        "create .gemini-api-key.new",
        "write .gemini-api-key.new",
        "sync .gemini-api-key.new",
        "rename .gemini-api-key.new",
        "sync folder credstore",
        "overwrite agentd.toml",
        "write agentd.toml",
        "sync agentd.toml",
        "sync folder conf.d",
        "rename agentd.toml",
        "sync folder firmware",
        "remove agentd-error.txt",
    ]


@pytest.mark.parametrize("old_key", ["", OLD_KEY])
def test_the_plug_may_be_pulled_at_every_step(tmp_path: Path, old_key: str) -> None:
    """There is always a whole key, old or new, and the next boot comes to the same end."""
    for number in itertools.count():
        device = Device(tmp_path / str(number))
        if old_key:
            device.key.parent.mkdir(mode=0o700)
            device.key.write_text(old_key)
        device.settings.write_text("[gpio]\nmute_led = 7\n")
        device.put(WHOLE)
        seen: list[str] = []
        try:
            device.start(Disk(pulled(number, seen)))
        except PowerCut:
            pass
        else:
            assert len(seen) == number > 10
            break
        whole = device.key.read_text() if device.key.exists() else ""
        assert whole in {old_key, KEY}
        if KEY not in device.card:
            assert whole == KEY
        assert device.settings.read_text() == "[gpio]\nmute_led = 7\n" or (
            "status_led = 6" in device.settings.read_text()
        )
        assert device.start() == 0
        assert device.key.read_text() == KEY
        assert "status_led = 6" in device.settings.read_text()
        assert KEY not in device.card
        assert not device.boot.exists()


@pytest.mark.parametrize("at", range(0, len(WHOLE), 3))
def test_a_card_may_be_covered_up_to_any_byte(device: Device, at: int) -> None:
    """The power went while its bytes were written: the next boot finishes it."""
    device.key.parent.mkdir(mode=0o700)
    device.key.write_text(KEY)
    device.put(WHOLE[:at].replace(KEY, COVER) + WHOLE[at:] if at < 20 else torn(at))
    assert device.start() == 0
    assert device.key.read_text() == KEY
    assert KEY not in device.card
    assert "status_led = 6" in device.settings.read_text()


def torn(at: int) -> str:
    """Return the boot file covered up to a byte."""
    return WHOLE.replace(KEY, COVER)[:at] + WHOLE[at:]


# ── a unit with encrypted credentials ─────────────────────────────────────────────────────────


class Systemd:
    """`systemctl cat` and `systemd-creds` of a unit that takes encrypted credentials."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails

    def __call__(self, command: Sequence[str], data: bytes) -> bytes:
        if command[0] == "systemctl":
            return b"[Service]\nLoadCredentialEncrypted=gemini-api-key\n"
        if self.fails:
            raise CommandFailed("systemd-creds: no host key")
        return b"encrypted " + data[::-1]


@pytest.mark.parametrize("fails", [False, True])
def test_an_encrypting_unit_gets_the_key_encrypted_or_keeps_its_own(
    device: Device, fails: bool
) -> None:
    """Where encryption fails the key stays on the card, and the report says so."""
    (device.root / "run/systemd/system").mkdir(parents=True)
    sealed = device.root / "etc/credstore.encrypted/gemini-api-key"
    sealed.parent.mkdir()
    sealed.write_bytes(b"encrypted old")
    device.put(WHOLE)
    store = KeyStore(Disk(), root=device.root, run=Systemd(fails=fails))
    outcome = Import(device.boot, store, Disk(), device.root).run()
    report = "\n".join(outcome.report())
    assert not device.key.exists()
    if fails:
        assert sealed.read_bytes() == b"encrypted old"
        assert "no host key" in report
        assert NONE_TAKEN in report
        assert device.boot.read_text() == WHOLE
    else:
        assert sealed.read_bytes() == b"encrypted " + KEY.encode()[::-1]
        assert report == ""
        assert KEY not in device.card
