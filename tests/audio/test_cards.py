"""Names of devices: by card id, USB path or PCM, never by number."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from agentd.audio import cards
from agentd.audio.alsa import check, refusal
from agentd.audio.devices import wav_path
from agentd.errors import AudioError, DeviceBusy, DeviceNotFound

CARDS = """\
 0 [vc4hdmi        ]: vc4-hdmi - vc4-hdmi
                      vc4-hdmi
 2 [Device         ]: USB-Audio - USB PnP Sound Device
                      C-Media USB PnP Sound Device at usb-0000:01:00.0-1.3, full speed
"""


@pytest.fixture
def asound(tmp_path: Path) -> Path:
    """A kernel with an HDMI output and a USB microphone."""
    (tmp_path / "cards").write_text(CARDS)
    (tmp_path / "card0" / "pcm0p").mkdir(parents=True)
    (tmp_path / "card2" / "pcm0c").mkdir(parents=True)
    return tmp_path


def test_cards_are_read_with_where_they_are_plugged_in(asound: Path) -> None:
    """Two lines each."""
    hdmi, usb = cards.cards(asound)
    assert (hdmi.number, hdmi.id) == (0, "vc4hdmi")
    assert (usb.number, usb.id) == (2, "Device")
    assert "usb-0000:01:00.0-1.3" in usb.text


def test_a_kernel_without_sound_has_no_cards(tmp_path: Path) -> None:
    """And no error."""
    assert cards.cards(tmp_path / "none") == []
    (tmp_path / "cards").write_text("--- no soundcards ---\n")
    assert cards.cards(tmp_path) == []


@pytest.mark.parametrize(
    ("typed", "pcm"),
    [
        ("default", "default"),
        ("pulse", "pulse"),
        ("Device", "plughw:CARD=Device"),
        ("usb-0000:01:00.0-1.3", "plughw:CARD=Device"),
        ("hw:CARD=Device,DEV=0", "plughw:CARD=Device,DEV=0"),
        ("plughw:CARD=Device", "plughw:CARD=Device"),
        ("dsnoop:CARD=Device", "plug:SLAVE='dsnoop:CARD=Device'"),
        ("my_array", "my_array"),
    ],
)
def test_a_typed_name_becomes_a_pcm_that_converts(asound: Path, typed: str, pcm: str) -> None:
    """Raw hardware refuses 16 kHz on many cards."""
    assert cards.pcm_of(typed, asound) == pcm


def test_an_absent_usb_path_names_itself_in_the_error(asound: Path) -> None:
    """It may come back."""
    assert cards.pcm_of("usb-9", asound) == "plughw:CARD=usb-9"


@pytest.mark.parametrize(
    ("pcm", "channel", "opened"),
    [("default", 0, 1), ("pulse", 3, 4), ("plughw:CARD=a", 0, 2), ("plughw:CARD=a", 4, 5)],
)
def test_enough_channels_are_opened_to_pick_one(pcm: str, channel: int, opened: int) -> None:
    """Hardware asked for mono would give the average of all."""
    assert cards.channels_to_open(pcm, channel) == opened


def test_the_list_names_what_can_be_typed(asound: Path) -> None:
    """Every card by its id, with what it can do."""
    listed = {info.name: info for info in cards.list_devices(asound)}
    assert (listed["Device"].capture, listed["Device"].playback) == (True, False)
    assert (listed["vc4hdmi"].capture, listed["vc4hdmi"].playback) == (False, True)
    assert not [name for name in listed if name.startswith("agentd_")]


def test_a_card_that_goes_while_it_is_listed_can_do_nothing(asound: Path) -> None:
    """Unplugged between two reads."""
    (asound / "cards").write_text(CARDS.replace(" 2 [", " 3 ["))
    listed = {info.name: info for info in cards.list_devices(asound)}
    assert not listed["Device"].capture


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        (errno.EBUSY, DeviceBusy, "fuser"),
        (errno.EACCES, AudioError, "group audio"),
        (errno.EPERM, AudioError, "systemctl restart agentd"),
        (errno.ENOENT, DeviceNotFound, "agentd devices"),
        (errno.ENODEV, DeviceNotFound, "Plug it in"),
        (errno.ETIMEDOUT, AudioError, "doctor"),
    ],
)
def test_every_refusal_says_what_to_do(code: int, kind: type[AudioError], says: str) -> None:
    """The name first, then cause, then remedy."""
    error = refusal("plughw:CARD=Device", code)
    assert type(error) is kind
    assert str(error).startswith("plughw:CARD=Device")
    assert says in str(error)


def test_alsa_null_is_no_microphone() -> None:
    """Nothing paces it: some 85 seconds of silence would come every second."""
    with pytest.raises(AudioError, match=r"^null is no microphone.*\. Choose .*agentd devices"):
        check("capture", "null")
    check("playback", "null")


def test_file_names_are_told_from_cards() -> None:
    """`file:` and nothing else."""
    assert wav_path("file:/a/b.wav") == Path("/a/b.wav")
    assert wav_path("default") is None
