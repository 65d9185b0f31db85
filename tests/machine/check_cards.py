"""Cards that come and go.

The USB speaker is pulled out and put in again through QEMU's monitor, in the middle of a reply and
under another card number; the microphone's card is unbound from its driver in the middle of speech.
Rows A1, A2 and A3 of the faults that agentd survives. Times are the machine's own.
"""

from __future__ import annotations

from rig.hearing import heard_share, last_sound, wait_for_sound
from tests.machine.board import Entry
from tests.machine.kitchen import MOUTH, Kitchen, sentence
from tests.machine.report import Section

_LOOPBACK = "/sys/bus/platform/drivers/snd_aloop"
# The second card nobody uses; bound anew, it takes the first number that is free.
UNBIND, BIND, UNBIND_SPARE, BIND_SPARE = (
    f"echo snd_aloop.{card} > {_LOOPBACK}/{verb}" for card in (0, 1) for verb in ("unbind", "bind")
)
CARDS = "sed -n 's/^ *\\([0-9]*\\) \\[\\([A-Za-z]*\\).*/\\1 \\2/p' /proc/asound/cards"


def test_the_speaker_is_pulled_out_in_a_reply(kitchen: Kitchen, section: Section) -> None:
    """A2: it is told, the session lives, and after replugging the next reply is heard."""
    board = kitchen.board
    wire = kitchen.service.mark()
    speech = kitchen.say_until("reply_started", sentence(6, 5.0))
    mark = speech.mark
    pulled_s = board.now_s()
    board.qemu.unplug_speaker()
    lost = board.wait_event("playback_lost", since=mark)
    speech.end()
    number = board.qemu.plug_speaker()
    plugged_s = board.now_s()
    back = board.wait_event("playback_back", since=mark)
    section.note("A2: unplugged in a reply, to told", seconds(lost, pulled_s))
    section.note("A2: told as", lost["MESSAGE"])
    section.note("A2: replugged, to taking samples", seconds(back, plugged_s))
    share = reply_share(kitchen, number, 7)
    section.note("A2: the next reply found in the new recording", f"{share:.0%}")
    section.excerpt(board.told(mark))
    assert not kitchen.service.record("closed", wire)
    assert not board.events("disconnected", since=mark)
    assert share > 0.5


def test_the_speaker_comes_back_under_another_number(kitchen: Kitchen, section: Section) -> None:
    """A2: another card has taken its number meanwhile; it is found by its name."""
    board = kitchen.board
    before = board.run(CARDS)
    speech = kitchen.say_until("reply_started", sentence(8, 4.0))
    mark = speech.mark
    board.qemu.unplug_speaker()
    board.wait_event("playback_lost", since=mark)
    # Which of the two came first at the boot is up to the boot; the other order makes them change.
    board.run(UNBIND_SPARE)
    spare_first = number_of("Spare", before) < number_of("Audio", before)
    if not spare_first:
        board.run(BIND_SPARE)
    number = board.qemu.plug_speaker()
    board.wait_event("playback_back", since=mark)
    if spare_first:
        board.run(BIND_SPARE)
    speech.end()
    after = board.run(CARDS)
    share = reply_share(kitchen, number, 9)
    section.note("A2: card numbers before", before.replace("\n", ", ").strip(", "))
    section.note("A2: card numbers after", after.replace("\n", ", ").strip(", "))
    section.note("A2: the next reply found in the new recording", f"{share:.0%}")
    assert number_of("Audio", before) != number_of("Audio", after)
    assert share > 0.5


def test_the_microphone_vanishes_in_mid_speech(kitchen: Kitchen, section: Section) -> None:
    """A1: it is told; when the card is back it listens again."""
    board = kitchen.board
    speech = kitchen.say_until("uplink_opened", sentence(10, 6.0))
    mark = speech.mark
    unbind = board.begin(UNBIND)
    lost = board.wait_event("capture_lost", since=mark)
    # The driver lets go when nobody has the card open any more, the mouth included.
    board.ask("pkill -x aplay")
    unbind.result()
    speech.interrupted()
    section.note("A1: unplugged in speech, to told", seconds(lost, unbind.begun_s))
    section.note("A1: told as", lost["MESSAGE"])
    bind = board.begin(BIND)
    bind.output()
    back = board.wait_event("capture_back", since=mark)
    section.note("A1: replugged, to frames", seconds(back, bind.begun_s))
    section.excerpt(board.told(mark))
    turn = kitchen.converse(sentence(11, 2.0))
    assert turn["AGENTD_EVENT"] == "turn"
    assert not board.events("disconnected", since=mark)


def test_a_busy_microphone_is_told_with_its_remedy(kitchen: Kitchen, section: Section) -> None:
    """A3: another program has the card when the daemon starts; when it is free it listens."""
    board = kitchen.board
    board.run("systemctl stop agentd", timeout_s=600)
    other = board.begin(f"exec arecord -q -D {MOUTH.replace('DEV=0', 'DEV=1')} -f dat /dev/null")
    mark = board.mark()
    board.run("systemctl start agentd", timeout_s=600)
    lost = board.wait_event("capture_lost", since=mark)
    kill = board.begin("pkill -x arecord")
    kill.result()
    other.result()
    back = board.wait_event("capture_back", since=mark)
    kitchen.wait_connected(mark)
    section.note("A3: told as", lost["MESSAGE"])
    section.note("A3: freed, to frames", seconds(back, kill.begun_s))
    assert "in use" in lost["MESSAGE"]
    assert kitchen.converse(sentence(12, 2.0))["AGENTD_EVENT"] == "turn"


def seconds(entry: Entry, since_s: float) -> str:
    """Return how long after a moment an entry was written."""
    return f"{entry['at_s'] - since_s:.1f} s"


def number_of(card: str, cards: str) -> str:
    """Return a card's number."""
    return next(line.split()[0] for line in cards.splitlines() if line.split()[1] == card)


def reply_share(kitchen: Kitchen, number: int, words: int) -> float:
    """Say something; return how much of the service's answer the speaker has played."""
    service = kitchen.service
    before = len(service.heard())
    kitchen.converse(sentence(words, 2.5))
    heard = kitchen.heard(before)
    sound = wait_for_sound(lambda: kitchen.reply(number), len(heard) // 3)
    return heard_share(heard, last_sound(sound, 3 * len(heard) / 16_000))
