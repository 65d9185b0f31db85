"""A device configured from its boot partition: the whole way, booted."""

from __future__ import annotations

import pytest

from tests.package.conftest import UPDATE
from tests.package.machine import Machine

KEY = "AIzaTestKeyOfNobody-0123456789abcdefghi"
BOOT = "/boot/firmware"


@pytest.fixture(scope="session")
def device(bare: Machine) -> Machine:
    """A machine with the package and a boot partition."""
    bare.apt(UPDATE)
    bare.apt("install agentd")
    bare.run(f"mkdir -p {BOOT}")
    return bare


def imported(device: Machine) -> bool:
    """Import as at a boot; tell whether it was accepted."""
    device.ask("systemctl reset-failed agentd-firstboot; systemctl start agentd-firstboot")
    return device.show("agentd-firstboot", "Result")["Result"] == "success"


def test_a_boot_without_a_file_changes_nothing(device: Machine) -> None:
    """The unit is skipped by its condition."""
    assert imported(device)
    assert not device.exists("/etc/agentd/conf.d/10-boot.toml")


def test_wrong_settings_are_refused_on_the_card_but_the_key_is_taken(device: Machine) -> None:
    """The person with the card reader finds out why; the key does not stay on the card."""
    device.write(
        f"{BOOT}/agentd.toml",
        f'[credentials]\r\ngemini_api_key = "{KEY}"\r\n[vad]\r\nhangover_ms = 5\r\n',
    )
    assert not imported(device)
    report = device.read(f"{BOOT}/agentd-error.txt")
    assert "vad.hangover_ms" in report
    assert not device.exists("/etc/agentd/conf.d/10-boot.toml")
    assert KEY not in device.read(f"{BOOT}/agentd.toml")
    assert device.read("/etc/credstore/gemini-api-key") == KEY
    assert "vad.hangover_ms" in device.run("journalctl --no-pager -u agentd-firstboot -o cat")


def test_at_the_next_boot_the_corrected_file_is_taken(device: Machine) -> None:
    """Settings in force, nothing left to import, the complaint gone, the daemon started after."""
    device.run(f"sed -i 's/hangover_ms = 5/hangover_ms = 500/' {BOOT}/agentd.toml")
    device.reboot()
    assert "hangover_ms = 500" in device.read("/etc/agentd/conf.d/10-boot.toml")
    assert not device.exists(f"{BOOT}/agentd.toml")
    assert not device.exists(f"{BOOT}/agentd-error.txt")
    device.run("agentd config check")
    assert device.active("agentd")


def test_a_key_alone_is_enough(device: Machine) -> None:
    """A file with nothing but a key replaces the key and no setting."""
    before = device.read("/etc/agentd/conf.d/10-boot.toml")
    device.write(f"{BOOT}/agentd.toml", f'[credentials]\ngemini_api_key = "{KEY}2"\n')
    assert imported(device)
    assert device.read("/etc/credstore/gemini-api-key") == KEY + "2"
    assert device.run("stat -c '%a %U' /etc/credstore/gemini-api-key").split() == ["600", "root"]
    assert device.read("/etc/agentd/conf.d/10-boot.toml") == before
    assert KEY not in device.run(f"cat {BOOT}/*")


def test_rubbish_is_refused_and_left_alone(device: Machine) -> None:
    """What is not TOML stays as it is, with the reason beside it."""
    device.write(f"{BOOT}/agentd.toml", b"\xff\xfe this is not toml")
    assert not imported(device)
    assert "UTF-8" in device.read(f"{BOOT}/agentd-error.txt")
    device.run(f"rm {BOOT}/agentd.toml")


def test_settings_that_would_stop_the_daemon_are_refused(device: Machine) -> None:
    """Right by themselves, wrong beside what the device has: it keeps what it has and runs on."""
    device.write("/etc/agentd/conf.d/50-button.toml", "[gpio]\nbutton = 5\n")
    before = device.read("/etc/agentd/conf.d/10-boot.toml")
    device.write(f"{BOOT}/agentd.toml", "[gpio]\nstatus_led = 5\n")
    assert not imported(device)
    report = device.read(f"{BOOT}/agentd-error.txt")
    device.run(f"rm {BOOT}/agentd.toml")
    assert "pin 5" in report
    assert "No key was taken from this card." in report
    assert device.read("/etc/agentd/conf.d/10-boot.toml") == before
    device.run("agentd config check && rm /etc/agentd/conf.d/50-button.toml")


def test_a_unit_with_encrypted_credentials_gets_the_key_encrypted(device: Machine) -> None:
    """The import's own sandbox can ask systemd, and make and use the key of the host."""
    dropin = "/etc/systemd/system/agentd.service.d/encrypted-credentials.conf"
    device.run(
        f"mkdir -p {dropin.rpartition('/')[0]} && "
        f"cp /usr/share/doc/agentd/examples/encrypted-credentials.conf {dropin} && "
        "systemctl daemon-reload"
    )
    device.write(f"{BOOT}/agentd.toml", f'[credentials]\ngemini_api_key = "{KEY}3"\n')
    try:
        assert imported(device), device.run("journalctl --no-pager -u agentd-firstboot -n 20")
        assert device.run("ls -A /etc/credstore") == ""
        sealed = "/etc/credstore.encrypted/gemini-api-key"
        told = device.run(f"systemd-creds decrypt --name=gemini-api-key {sealed} -")
        assert told == KEY + "3"
    finally:
        device.run(f"agentd-set-key --remove; rm {dropin}; systemctl daemon-reload")
