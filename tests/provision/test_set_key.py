"""`agentd-set-key`: the new key is in place before the old one goes; what fails changes nothing."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from agentd.provision import set_key
from agentd.provision.disk import Disk
from agentd.provision.keystore import CommandFailed, KeyStore, StoreFailed, run_command

KEY = "AIzaTestKeyOfNobody-0123456789abcdefghi"
OLD = "AIzaAnotherTestKey-0123456789abcdefghij"
ACCOUNT = '{"type": "service_account"}'


class PowerCut(BaseException):
    """The plug is pulled."""


class System:
    """systemd and systemd-creds; `fails` names the credentials that cannot be encrypted."""

    def __init__(self, *, encrypts: bool = False, fails: Sequence[str] = ()) -> None:
        self.encrypts = encrypts
        self.fails = fails
        self.restarts = 0
        self.empty = False
        self.cannot_restart = False

    def __call__(self, command: Sequence[str], data: bytes) -> bytes:
        match command[:2]:
            case ["systemctl", "cat"]:
                return b"LoadCredentialEncrypted=gemini-api-key\n" if self.encrypts else b"[Unit]\n"
            case ["systemctl", "try-restart"]:
                if self.cannot_restart:
                    raise CommandFailed("systemctl: Unit agentd.service is masked")
                self.restarts += 1
                return b""
            case _:
                name = command[2].partition("=")[2]
                if name in self.fails:
                    raise CommandFailed("systemd-creds: Failed to determine local credential key")
                return b"" if self.empty else sealed(data)


def sealed(data: bytes | str) -> bytes:
    """Return what encryption makes of a secret."""
    return b"sealed " + (data.encode() if isinstance(data, str) else data)[::-1]


class Machine:
    """A root directory, and what is stored in it."""

    def __init__(self, root: Path, system: System, disk: Disk | None = None) -> None:
        self.root = root
        (root / "run/systemd/system").mkdir(parents=True, exist_ok=True)
        self.store = KeyStore(disk or Disk(), root=root, run=system)

    def put(self, path: str, content: bytes | str) -> None:
        target = self.root / "etc" / path
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)

    @property
    def stored(self) -> dict[str, bytes]:
        files = (self.root / "etc").glob("*/*")
        return {str(p.relative_to(self.root / "etc")): p.read_bytes() for p in files}

    def set_key(self, *arguments: str) -> int:
        return set_key.main(arguments, self.store)


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key comes through a pipe, with the line end of Windows."""
    type_in(monkeypatch, f"{KEY}\r\n")


def type_in(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let standard input have a text."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


@pytest.mark.usefixtures("typed")
def test_a_key_is_stored_for_root_alone_and_the_daemon_takes_it(tmp_path: Path) -> None:
    """In the folder that the unit reads."""
    system = System()
    machine = Machine(tmp_path, system)
    machine.put("credstore/gemini-api-key", OLD)
    assert machine.set_key() == 0
    assert machine.stored == {"credstore/gemini-api-key": KEY.encode()}
    path = tmp_path / "etc/credstore/gemini-api-key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert system.restarts == 1


@pytest.mark.usefixtures("typed")
def test_an_encrypting_unit_has_no_plain_key_afterwards(tmp_path: Path) -> None:
    """The other credential is encrypted on the way; one that is encrypted already stays."""
    machine = Machine(tmp_path, System(encrypts=True))
    machine.put("credstore/gemini-api-key", OLD)
    machine.put("credstore/google-application-credentials", ACCOUNT)
    assert machine.set_key() == 0
    assert machine.stored == {
        "credstore.encrypted/gemini-api-key": sealed(KEY),
        "credstore.encrypted/google-application-credentials": sealed(ACCOUNT),
    }


@pytest.mark.usefixtures("typed")
@pytest.mark.parametrize("how", ["fails", "empty"])
def test_a_key_that_cannot_be_encrypted_leaves_everything(
    tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The old ones work on, plain or encrypted, and nothing is restarted."""
    system = System(encrypts=True, fails=["gemini-api-key"] if how == "fails" else [])
    system.empty = how == "empty"
    machine = Machine(tmp_path, system)
    machine.put("credstore/gemini-api-key", OLD)
    machine.put("credstore.encrypted/gemini-api-key", sealed(OLD))
    before = machine.stored
    assert machine.set_key() == 1
    assert machine.stored == before
    assert system.restarts == 0
    assert "nothing is changed" in capsys.readouterr().err


@pytest.mark.usefixtures("typed")
def test_another_credential_that_cannot_be_encrypted_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The new key is in place, the other as it was, and that is said; nothing is restarted."""
    system = System(encrypts=True, fails=["google-application-credentials"])
    machine = Machine(tmp_path, system)
    machine.put("credstore/gemini-api-key", OLD)
    machine.put("credstore/google-application-credentials", ACCOUNT)
    assert machine.set_key() == 1
    assert machine.stored == {
        "credstore.encrypted/gemini-api-key": sealed(KEY),
        "credstore/google-application-credentials": ACCOUNT.encode(),
    }
    assert system.restarts == 0
    assert "google-application-credentials is still there, in the clear" in capsys.readouterr().err


@pytest.mark.usefixtures("typed")
def test_a_key_is_stored_though_the_daemon_cannot_be_restarted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both are said."""
    system = System()
    system.cannot_restart = True
    machine = Machine(tmp_path, system)
    assert machine.set_key() == 1
    assert machine.stored == {"credstore/gemini-api-key": KEY.encode()}
    assert "stored, but agentd was not restarted" in capsys.readouterr().err


@pytest.mark.parametrize("encrypts", [False, True])
def test_the_plug_may_be_pulled_at_every_step(
    tmp_path: Path, encrypts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is always a whole key, the old one until the new one is there; again is enough."""
    for number in itertools.count():
        steps = itertools.count()

        def at_step(step: str, steps: itertools.count[int] = steps, last: int = number) -> None:
            if next(steps) == last:
                raise PowerCut(step)

        root = tmp_path / str(number)
        cut = Machine(root, System(encrypts=encrypts), Disk(at_step))
        cut.put("credstore/gemini-api-key", OLD)
        cut.put("credstore/google-application-credentials", ACCOUNT)
        type_in(monkeypatch, KEY)
        try:
            cut.set_key()
        except PowerCut:
            pass
        else:
            assert number >= 5
            return
        whole = {OLD.encode(), KEY.encode(), sealed(OLD), sealed(KEY)}
        assert whole & set(cut.stored.values())
        assert {ACCOUNT.encode(), sealed(ACCOUNT)} & set(cut.stored.values())
        again = Machine(root, System(encrypts=encrypts))
        type_in(monkeypatch, KEY)
        assert again.set_key() == 0
        secrets = {KEY, ACCOUNT} if not encrypts else set()
        expected = {s.encode() for s in secrets} or {sealed(KEY), sealed(ACCOUNT)}
        assert set(again.stored.values()) == expected


@pytest.mark.parametrize(
    ("text", "cause"),
    [("", "no key was given"), ("\n", "no key"), ("two words\n", "spaces"), ("a\x1b[m\n", "marks")],
)
def test_what_is_no_key_changes_nothing(
    tmp_path: Path,
    text: str,
    cause: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is said, without repeating what was given."""
    machine = Machine(tmp_path, System())
    machine.put("credstore/gemini-api-key", OLD)
    type_in(monkeypatch, text)
    assert machine.set_key() == 1
    told = capsys.readouterr().err
    assert cause in told
    assert "nothing is changed" in told
    assert "\x1b" not in told
    assert machine.stored == {"credstore/gemini-api-key": OLD.encode()}


@pytest.mark.parametrize(
    ("content", "cause"),
    [(ACCOUNT, ""), ("[]", "not a JSON object"), ("{", "is not JSON"), (None, "cannot be read")],
)
def test_a_service_account_is_looked_at_first(
    tmp_path: Path, content: str | None, cause: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that no service could use is not put in place of one that it can."""
    machine = Machine(tmp_path, System())
    machine.put("credstore/google-application-credentials", "old")
    file = tmp_path / "account.json"
    if content is not None:
        file.write_text(content)
    assert machine.set_key("--google-application-credentials", str(file)) == (1 if cause else 0)
    kept = content if content == ACCOUNT else "old"
    assert machine.stored == {"credstore/google-application-credentials": str(kept).encode()}
    assert cause in capsys.readouterr().err


def test_a_pipe_for_a_service_account_is_not_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody writes into it."""
    os.mkfifo(tmp_path / "pipe")
    machine = Machine(tmp_path, System())
    assert machine.set_key("--google-application-credentials", str(tmp_path / "pipe")) == 1
    assert "pipe" in capsys.readouterr().err


def test_removing_takes_every_copy(tmp_path: Path) -> None:
    """Plain and encrypted; the folders and what others keep in them stay."""
    system = System(encrypts=True)
    machine = Machine(tmp_path, system)
    for folder in ("credstore", "credstore.encrypted"):
        machine.put(f"{folder}/gemini-api-key", OLD)
        machine.put(f"{folder}/another", "x")
    assert machine.set_key("--remove") == 0
    assert set(machine.stored) == {"credstore/another", "credstore.encrypted/another"}
    assert system.restarts == 1


def test_what_could_not_be_removed_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A key that is still there is not said to be gone."""
    machine = Machine(tmp_path, System())
    (tmp_path / "etc/credstore/gemini-api-key").mkdir(parents=True)
    machine.put("credstore/google-application-credentials", ACCOUNT)
    assert machine.set_key("--remove") == 1
    assert "still there: " in capsys.readouterr().err
    assert not (tmp_path / "etc/credstore/google-application-credentials").exists()


def test_without_systemd_a_key_is_just_stored(tmp_path: Path) -> None:
    """In an image that is being made there is nobody to ask or to restart."""

    def nobody(command: Sequence[str], data: bytes) -> bytes:
        raise AssertionError(command)

    store = KeyStore(Disk(), root=tmp_path, run=nobody)
    store.put("gemini-api-key", KEY.encode())
    store.retire_plain()
    store.restart_daemon()
    assert store.known() == (KEY,)


def test_a_unit_that_systemd_does_not_know_takes_plain_keys(tmp_path: Path) -> None:
    """The package is not installed yet, or its unit is elsewhere."""

    def unknown(command: Sequence[str], data: bytes) -> bytes:
        raise CommandFailed("No files found for agentd.service.")

    machine = Machine(tmp_path, System())
    assert not KeyStore(Disk(), root=machine.root, run=unknown).encrypts


def test_a_disk_that_is_full_keeps_the_old_key(tmp_path: Path) -> None:
    """The cause is named, and no half of a key is left behind."""

    class Full(Disk):
        def _fill(self, fd: int, name: str, content: bytes) -> None:
            os.write(fd, content[:3])
            raise OSError(28, "No space left on device")

    machine = Machine(tmp_path, System(), Full())
    machine.put("credstore/gemini-api-key", OLD)
    with pytest.raises(StoreFailed, match="No space left"):
        machine.store.put("gemini-api-key", KEY.encode())
    assert machine.stored == {"credstore/gemini-api-key": OLD.encode()}


def test_programs_of_the_system_are_told_with_their_own_words() -> None:
    """One that is missing, one that fails, one that works."""
    assert run_command(["cat"], b"abc") == b"abc"
    with pytest.raises(CommandFailed, match="exit status 3"):
        run_command(["sh", "-c", "exit 3"], b"")
    with pytest.raises(CommandFailed, match="in its words"):
        run_command(["sh", "-c", "echo in its words >&2; exit 1"], b"")
    with pytest.raises(CommandFailed, match="no-such-program"):
        run_command(["no-such-program"], b"")
