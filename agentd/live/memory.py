"""What is kept of the conversation: handles, transcript, and an instruction given by word.

Decides what goes into the two documents on disk. What comes from them may have been written by
anyone and is checked in `resumption` and `transcript`.
"""

from __future__ import annotations

from typing import Any

from agentd import events
from agentd.clock import WallTime
from agentd.config.settings import Settings
from agentd.events import Event
from agentd.live.commands import PutAside, StoreDocument
from agentd.live.messages import ResumptionUpdate, whole_text
from agentd.live.outputs import Outputs
from agentd.live.plan import digest, identity
from agentd.live.resumption import (
    Choice,
    Handle,
    Ladder,
    fingerprint,
    handle_from_document,
    handle_to_document,
)
from agentd.live.transcript import Exchange, Transcript
from agentd.text import counted

SESSION, TRANSCRIPT = "session", "transcript"  # names of the documents
VERSION = 1
MAX_INSTRUCTION_CHARS = 65_536
MAX_REFUSALS = 2  # sessions in a row that end over a restored conversation before they answer


class Memory:
    """The ladder of handles, the journal, and the instruction in force.

    Of all parts it alone needs the wall clock, for what is kept over a restart: `wall` is set
    before every input.
    """

    def __init__(self, settings: Settings, out: Outputs, endpoint: str) -> None:
        privacy = settings.privacy
        self.ladder = Ladder()
        self.journal = Transcript(
            max_turns=privacy.transcript_max_turns,
            max_age_s=privacy.transcript_max_age_h * 3600.0,
            enabled=privacy.restore_context,
        )
        self._settings = settings
        self._identity = identity(settings, endpoint)
        self._dialled = self._identity  # what the handles of the present connection are bound to
        self._out = out
        self._look_at_s: float | None = None  # for what has become too old
        self.wall = WallTime(0.0, synchronised=False)  # at the present input
        self._lags = False  # something was said that the newest handle may not lead to
        self._spoken_instruction: str | None = None  # in place of the configured one
        self._refusals = 0  # of the restored conversation, over restarts

    def load(self, session: object, transcript: object, now: float) -> None:
        """Take over what the store held."""
        self.journal.load(transcript)
        self._retain(transcript, now)
        self._plan(now)
        if not isinstance(session, dict) or session.get("version") != VERSION:
            return
        handles = session.get("handles")
        found = [handle_from_document(h) for h in handles[:2]] if isinstance(handles, list) else []
        self.ladder = Ladder(*[handle for handle in found if handle is not None])
        text, basis = session.get("instruction"), session.get("instruction_basis")
        # an instruction given by word holds until the configured one changes
        if isinstance(text, str) and basis == self._instruction_basis():
            self._spoken_instruction = whole_text(text[:MAX_INSTRUCTION_CHARS])
        refusals = session.get("restore_refusals")
        if isinstance(refusals, int) and not isinstance(refusals, bool):
            self._refusals = min(max(refusals, 0), MAX_REFUSALS - 1)

    def configure(self, settings: Settings, endpoint: str, now: float) -> None:
        """Take new settings; what privacy no longer allows is deleted at once."""
        before, self._settings = self._settings, settings
        self._identity = identity(settings, endpoint)
        privacy = settings.privacy
        self.journal.limit(
            max_turns=privacy.transcript_max_turns,
            max_age_s=privacy.transcript_max_age_h * 3600.0,
            enabled=privacy.restore_context,
        )
        if before.privacy.restore_context and not privacy.restore_context:
            self._out.add(StoreDocument(TRANSCRIPT, None))
        if before.live.system_instruction != settings.live.system_instruction:
            self._spoken_instruction = None  # the file has the last word
        self._plan(now)

    # ── instruction ──

    @property
    def instruction(self) -> str:
        """Return the system instruction in force."""
        if self._spoken_instruction is None:
            return self._settings.live.system_instruction
        return self._spoken_instruction

    def instruct(self, text: str) -> None:
        """Put an instruction in force."""
        self._spoken_instruction = whole_text(text[:MAX_INSTRUCTION_CHARS])
        self.save()

    def _instruction_basis(self) -> str:
        return fingerprint(self._settings.live.system_instruction)

    # ── handles ──

    def choose(self, now: float) -> Choice:
        """Return the best way to dial."""
        self._dialled = self._identity
        return self.ladder.choose(
            self._identity,
            lifetime_s=self._settings.handle_lifetime_s,
            now=now,
            wall=self.wall,
            can_restore=bool(self.exchanges(now)),
        )

    def offer(
        self,
        update: ResumptionUpdate,
        consumed: int | None,
        now: float,
        parent: Handle | None = None,
    ) -> None:
        """Take an update; a new handle is stored. For `parent` see `Ladder.offer`."""
        template = Handle(
            "",
            self._dialled,
            self.wall,
            digest(self._settings, self._spoken_instruction),
            alive_s=now,
            alive=self.wall,
            consumed=consumed,
        )
        stored = self.ladder.offer(update, template, parent)
        if stored is not None:
            self.save(events.HandleStored(handle=fingerprint(stored.value)))

    def drop(self, handle: Handle, cause: str) -> None:
        """Never use a handle again."""
        self.ladder.drop(handle, cause)
        self._out.emit(events.HandleDropped(handle=fingerprint(handle.value), cause=cause))
        self.save()

    def began_fresh(self) -> None:
        """Note that a fresh session stands."""
        had_handles = self.ladder.newest is not None
        self.ladder.began_fresh()
        if had_handles:
            self.save()

    def was_alive(self, now: float) -> None:
        """Note that the session was alive just now; the lifetime of its handles starts anew."""
        self.ladder.touch(now, self.wall)
        self.save()

    @property
    def resumable(self) -> bool:
        """Return whether the service can be left, as far as its last update says.

        It says so, or there is no handle that the next connection could use.
        """
        newest = self.ladder.newest
        usable = newest is not None and newest.identity == self._identity
        return self.ladder.resumable or not usable

    @property
    def is_behind(self) -> bool:
        """Return whether a handle is still to come that leads to more than the newest one.

        A handle of another identity leads nowhere, and so will the next one.
        """
        newest = self.ladder.newest
        return self._lags and (newest is None or newest.identity == self._identity)

    def fall_behind(self) -> None:
        """Note that a turn is under way, or just over: no handle so far leads to its end."""
        self._lags = True

    def catch_up(self) -> None:
        """Note that the newest handle came with no turn open, or that a connection begins."""
        self._lags = False

    @property
    def consumed(self) -> int | None:
        """Return the log position that every handle in use has passed, if all tell theirs."""
        in_use = self.ladder.handles
        reach = [handle.consumed for handle in in_use if handle.consumed is not None]
        return min(reach) if reach and len(reach) == len(in_use) else None

    # ── a restored conversation ──

    def restoring_refused(self, cause: str) -> bool:
        """Count a session that ended over what it was restored from; True if that was the last.

        The conversation is then put aside: it would end the next session, and the one after it.
        """
        self._refusals += 1
        last = self._refusals >= MAX_REFUSALS
        if last:
            self._refusals = 0
            turns = len(self.journal)
            self.journal.clear()
            self._out.add(PutAside(TRANSCRIPT))
            self._out.emit(events.ContextRefused(cause=cause, turns=turns))
            self.ladder.explain("the restored conversation was refused")
        self.save()
        return last

    def restoring_worked(self) -> None:
        """Note that a session has answered: what it was restored from does no harm."""
        if self._refusals:
            self._refusals = 0
            self.save()

    # ── transcript ──

    def exchanges(self, now: float) -> tuple[Exchange, ...]:
        """Return what a fresh session may be told."""
        return self.journal.recent(now, self.wall)

    def _retain(self, document: object, now: float) -> None:
        """Take from the disk what the privacy settings no longer allow there."""
        if not self.journal.enabled:
            self._out.add(StoreDocument(TRANSCRIPT, None))  # and what was put aside of it
        elif isinstance(document, dict) and document.get("version") == VERSION:
            turns = document.get("turns")
            if isinstance(turns, list) and len(self.exchanges(now)) < len(turns):
                self._keep_transcript()

    def tick(self, now: float) -> None:
        """Delete what has become too old, here and on disk."""
        if self._look_at_s is None or now < self._look_at_s:
            return
        before = len(self.journal)
        if len(self.exchanges(now)) < before:
            self._keep_transcript()
        self._look_at_s = None
        self._plan(now)

    def deadline(self) -> float | None:
        """Return when `tick` should be called next, if ever."""
        return self._look_at_s

    def _plan(self, now: float) -> None:
        """Look again when the oldest is too old, or when that was planned if it is sooner."""
        at_s = self.journal.next_expiry_s(now, self.wall)
        if at_s is not None and self._look_at_s is not None:
            at_s = min(at_s, self._look_at_s)
        self._look_at_s = at_s

    def _keep_transcript(self) -> None:
        document = self.journal.to_document() if len(self.journal) else None
        self._out.add(StoreDocument(TRANSCRIPT, document))

    def add(self, user: str, model: str, now: float) -> None:
        """Keep an exchange."""
        if self.journal.add(user, model, now, self.wall):
            self._keep_transcript()
            self._plan(now)

    # ── all ──

    def forget(self) -> str:
        """Delete everything, here and on disk; return what it was."""
        what = [
            "the session at the service" if self.ladder.newest else "no stored session",
            counted(len(self.journal), "turn") + " of transcript",
        ]
        if self._spoken_instruction is not None:
            what.append("the spoken instruction")
        self.ladder.forget("forgotten")
        self.journal.clear()
        self._spoken_instruction = None
        self._refusals = 0
        self._out.add(StoreDocument(SESSION, None))
        self._out.add(StoreDocument(TRANSCRIPT, None))
        return ", ".join(what)

    def save(self, stored: Event | None = None) -> None:
        """Have the session document written; `stored` is told when it is safe."""
        handles = [h for h in (self.ladder.newest, self.ladder.previous) if h is not None]
        document: dict[str, Any] = {
            "version": VERSION,
            "handles": [handle_to_document(handle) for handle in handles],
            "instruction": self._spoken_instruction,
            "instruction_basis": self._instruction_basis(),
            "restore_refusals": self._refusals,
        }
        self._out.add(StoreDocument(SESSION, document, stored))
