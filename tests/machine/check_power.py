"""The plug is pulled.

The machine is killed at random moments of a conversation and switched on again with the same disk.
What its kernel had not yet written is lost, as it would be; what the disk had acknowledged stays.
The state file is copied aside at each boot before agentd starts: it is whole, and its handle is one
that the service gave out; then the conversation goes on. At further moments the machine stands
still while its disk is copied, and the copy is looked into as if the power had been cut there.
To save time the machine has one core and neither NetworkManager nor a USB speaker, and two of them,
each with a disk and a service of its own, are tormented side by side.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import time
from collections import Counter
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Final

from agentd.state.envelope import decode
from tests.machine.board import Board
from tests.machine.image import Image
from tests.machine.install import Installed
from tests.machine.kitchen import Kitchen, Service, own_kitchen, sentence
from tests.machine.moments import freeze, state_files
from tests.machine.report import Section
from tests.machine.slim import SLIM, STATE_AT_BOOT, prepare

CUTS: Final = int(os.environ.get("CUTS", "30"))
BUDGET_S: Final = float(os.environ.get("CUTS_BUDGET_S", "2100"))
"""No further cut is begun after this time; the report says how many there were."""
SEED: Final = 7
MACHINES: Final = 2
STEP_S: Final = 120.0
"""For a step of the conversation on a starved processor; if it does not come, the cut does."""

# What a conversation comes to, one after the other; the plug is pulled at a random moment after one
# of them. agentd writes the state when a handle was given, and then not for five seconds.
STEPS: Final = ("session", "listening", "reply", "handle", "silence")
AFTER_S: Final = {"session": 4.0, "listening": 4.0, "reply": 3.0, "handle": 1.5, "silence": 7.0}


@dataclass
class Tally:
    """What the cuts led to."""

    cuts: int = 0
    looks: int = 0
    boots: int = 0
    ages: Counter[str] = field(default_factory=Counter)
    moments: Counter[str] = field(default_factory=Counter)
    torn: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    first_words: Counter[str] = field(default_factory=Counter)
    waits_s: list[float] = field(default_factory=list)
    last_words: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add what another machine went through."""
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass
class Lane:
    """One of the machines: how often, when, and what came of it."""

    number: int
    cuts: int
    deadline_s: float
    tally: Tally = field(default_factory=Tally)
    journal: str = ""
    board: Board | None = None

    def stop(self) -> None:
        """End it from another thread, by the plug: whoever waits for the machine fails."""
        self.deadline_s = 0.0
        if self.board is not None and self.board.is_on:
            self.board.qemu.process.kill()

    def torment(self, image: Image, product: Installed) -> None:
        """Have a conversation, and cut, and look, and again."""
        chance = random.Random(SEED + self.number)
        with own_kitchen(image, product.disk, "--latency", "0.5") as kitchen:
            self.board = kitchen.board
            prepare(kitchen)
            wake(kitchen, "session_fresh")
            mark = kitchen.board.mark()
            kitchen.converse(sentence(1, 1.5))
            kitchen.board.wait_event("handle_stored", since=mark)
            kitchen.board.cut_power()
            for step in plan(self.cuts, chance):
                if time.monotonic() > self.deadline_s:
                    break
                self._boot(kitchen)
                cut_after(step, kitchen, self.tally, chance)
            self._boot(kitchen)
            self.tally.last_words.append(kitchen.converse(sentence(2, 2.0))["AGENTD_EVENT"])
            self.journal = kitchen.board.told()

    def _boot(self, kitchen: Kitchen) -> None:
        begun_s = time.monotonic()
        first = wake(kitchen, "resumed", "session_fresh")
        board, tally = kitchen.board, self.tally
        tally.boots += 1
        tally.waits_s.append(time.monotonic() - begun_s)
        tally.first_words[first] += 1
        tally.torn += [entry["MESSAGE"] for entry in board.events("state_quarantined")]
        judge(json.loads(board.run(_READ)), handles(kitchen.service), tally)


def test_no_cut_tears_the_state_and_the_conversation_goes_on(
    image: Image, product: Installed, alone: None, section: Section
) -> None:
    """After every cut: a whole state file with a handle of the service, and a resumed session."""
    begun_s = time.monotonic()
    shares = [CUTS // MACHINES + (number < CUTS % MACHINES) for number in range(MACHINES)]
    lanes = [Lane(number, share, begun_s + BUDGET_S) for number, share in enumerate(shares)]
    with ThreadPoolExecutor(MACHINES) as pool:
        ends = [pool.submit(lane.torment, image, product) for lane in lanes]
        try:
            wait(ends, return_when=FIRST_EXCEPTION)
        finally:  # one has failed, or the run is broken off: the other is not waited for
            for lane, end in zip(lanes, ends, strict=True):
                if not end.done():
                    lane.stop()
    tally = Tally()
    for lane in lanes:
        tally.add(lane.tally)
    write(section, tally, begun_s)
    section.excerpt(lanes[0].journal)
    for end in ends:
        end.result()
    assert not tally.torn
    assert not tally.unknown
    assert tally.first_words == {"resumed": tally.cuts + MACHINES}
    assert tally.last_words == ["turn"] * MACHINES
    assert tally.cuts >= CUTS, f"{tally.cuts} cuts in {BUDGET_S:g} s"


def plan(cuts: int, chance: random.Random) -> list[str]:
    """Return the steps after which to cut: each as often as the others, in no order."""
    steps = list(itertools.islice(itertools.cycle(STEPS), cuts))
    chance.shuffle(steps)
    return steps


def wake(kitchen: Kitchen, *words: str) -> str:
    """Switch on; return the first word of the session."""
    kitchen.board.switch_on(SLIM)
    return str(kitchen.board.wait_event(*words, timeout_s=900)["AGENTD_EVENT"])


def judge(files: dict[str, str], given: list[str], tally: Tally) -> None:
    """Decode every state file; tell which of the service's handles is in it."""
    newest = -1
    for name, text in files.items():
        try:
            document = decode(name, text.encode())
        except ValueError as error:
            tally.torn.append(f"{name}: {error}")
            continue
        kept = [entry["handle"] for entry in document.get("handles", [])]
        tally.unknown += [name for handle in kept if handle not in given]
        newest = max([newest, *(given.index(handle) for handle in kept if handle in given)])
    behind = len(given) - 1 - newest
    age = "none" if newest < 0 else "the newest" if behind == 0 else f"{behind} before the newest"
    tally.ages[age] += 1


def cut_after(last: str, kitchen: Kitchen, tally: Tally, chance: random.Random) -> None:
    """Go through a conversation up to a step, and pull the plug at a random moment after it.

    On the way the disk is looked at as it would have been left at other moments.
    """
    board, service = kitchen.board, kitchen.service
    mark, wire = board.mark(), service.mark()
    copies = []
    for step in STEPS:
        if step == "listening":
            wire = service.mark()
            kitchen.say(sentence(chance.randrange(8), 2.0))
        arrived = step == "session" or arrives(step, kitchen, mark, wire)
        # The moment is the experiment.
        time.sleep(chance.uniform(0, AFTER_S[step]))
        if step == last or not arrived:
            break
        copy = board.work / f"moment-{step}.qcow2"
        freeze(board.qemu, board.disk, copy)
        copies.append((copy, handles(service)))
    state = [entry["AGENTD_AFTER"] for entry in board.events("state")]
    board.cut_power()
    tally.cuts += 1
    tally.moments[state[-1] if state else "starting"] += 1
    for copy, then in copies:
        tally.looks += 1
        files = {name: text.decode(errors="replace") for name, text in state_files(copy).items()}
        judge(files, then, tally)


def arrives(step: str, kitchen: Kitchen, mark: int, wire: int) -> bool:
    """Wait for a step; tell whether it has come. A starved machine may not have heard."""
    events = {"listening": "uplink_opened", "reply": "reply_started", "silence": "reply_drained"}
    try:
        if step == "handle":
            kitchen.service.wait("sessionResumptionUpdate", wire, STEP_S)
        else:
            kitchen.board.wait_event(events[step], since=mark, timeout_s=STEP_S)
    except (AssertionError, TimeoutError):
        return False
    return True


def handles(service: Service) -> list[str]:
    """Return every handle that the service has given out, oldest first."""
    updates = service.record("sessionResumptionUpdate")
    messages = [entry["message"]["sessionResumptionUpdate"] for entry in updates]
    return [message["newHandle"] for message in messages if message.get("newHandle")]


_READ: Final = f"""python3 -IB -c "
import json, pathlib
files = pathlib.Path('{STATE_AT_BOOT}').glob('*.json')
print(json.dumps({{path.stem: path.read_text(errors='replace') for path in files}}))
"
"""


def write(section: Section, tally: Tally, begun_s: float) -> None:
    """Report."""
    section.note(
        "cuts",
        f"{tally.cuts} in {(time.monotonic() - begun_s) / 60:.0f} min "
        f"on {MACHINES} machines, seed {SEED}",
    )
    section.note("further moments at which the disk was looked at", str(tally.looks))
    section.note("state of the device when it was cut", counted(tally.moments))
    section.note("state files torn or put aside", str(len(tally.torn)))
    section.note("handle on the disk, of those the service had given out", counted(tally.ages))
    section.note("handles that the service never gave out", str(len(tally.unknown)))
    section.note("first word of the session after the boot", counted(tally.first_words))
    if tally.waits_s:
        low, high = min(tally.waits_s), max(tally.waits_s)
        section.note("power on to session, by the clock on the wall", f"{low:.0f} to {high:.0f} s")


def counted(counter: Counter[str]) -> str:
    """Return what was counted, most often first."""
    return ", ".join(f"{count} × {what}" for what, count in counter.most_common())
