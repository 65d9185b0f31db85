"""From utterances to messages: what leaves the device, when, and how often.

The rules, all of them checked by property tests:

* Every utterance goes out whole and once per surviving connection, in order, or is announced lost.
* Audio is sent only between `UplinkOpened` and `UplinkClosed`, and never while muted.
* The first audio goes out at once; the rest in messages of 60 ms, because a message costs about
  the same whatever its length.
* While a blocking function call is pending on a model that closes on audio, audio waits.
* Speech that was split by length stays one activity; the model is not asked in mid-sentence.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agentd.config.settings import Settings
from agentd.events import (
    EndReason,
    Replayed,
    Speech,
    SpeechLost,
    UtteranceAudio,
    UtteranceEnded,
    UtteranceStarted,
)
from agentd.live.capabilities import Capabilities
from agentd.live.commands import PurgeAudio
from agentd.live.line import Line
from agentd.live.messages import (
    UPLINK_BYTES_PER_MS,
    ActivityEnd,
    ActivityStart,
    AudioStreamEnd,
    ClientContent,
    ClientMessage,
    Content,
    RealtimeAudio,
    RealtimeText,
    Silence,
    whole_text,
)
from agentd.live.outputs import Outputs
from agentd.live.replay import (
    Item,
    Lost,
    Outbox,
    Sent,
    SentLog,
    Typed,
    Utterance,
    ring_bytes,
    settled,
    without_stale,
)
from agentd.live.turn import NO_ANSWER
from agentd.live.turns import Turns

PIECE_BYTES = 60 * UPLINK_BYTES_PER_MS
MAX_MESSAGE_BYTES = 100 * UPLINK_BYTES_PER_MS  # the longest the Live API guide recommends
TRAILING_PIECES = 10  # a second: the service's detector waits 500 to 800 ms, as it is set
JOIN_S = 1.0  # the rest of a split utterance follows without a gap; later it will not come


@dataclass(frozen=True, slots=True)
class UplinkSettings:
    """What the uplink needs of the settings."""

    local_activity: bool
    client_content: bool
    trailing_pieces: int  # of silence behind speech, for the service's own detector
    max_age_s: float
    max_bytes: int


def uplink_settings(settings: Settings, caps: Capabilities) -> UplinkSettings:
    """Return what the uplink needs of the settings and of what the model can do."""
    return UplinkSettings(
        local_activity=settings.live.activity_detection == "local",
        client_content=caps.client_content,
        trailing_pieces=0 if caps.heeds_stream_end else TRAILING_PIECES,
        max_age_s=settings.network.replay_max_age_s,
        max_bytes=ring_bytes(settings),
    )


class Uplink:
    """Holds what was said and sends it when it may."""

    def __init__(
        self,
        settings: UplinkSettings,
        outbox: Outbox,
        turns: Turns,
        out: Outputs,
    ) -> None:
        self.settings = settings
        self.outbox = outbox
        self.log = SentLog(max_bytes=settings.max_bytes)
        self._turns = turns
        self._out = out
        self._line = Line(self.log, out)
        self._activity: Utterance | None = None  # what the service's open activity carries
        self._join_by_s: float | None = None
        self.muted = False
        self.held = False
        self.lost_count = 0
        self.replayed_count = 0

    def configure(self, settings: UplinkSettings) -> None:
        """Take new settings."""
        self.settings = settings
        self.outbox.max_age_s = settings.max_age_s
        self.outbox.max_bytes = self.log.max_bytes = settings.max_bytes

    # ── what is said ──

    def hear(self, speech: Speech) -> None:
        """Take speech from the gate. Unknown utterances (from before an unmute) are ignored."""
        if isinstance(speech, UtteranceStarted):
            if not self.muted:
                self._begin(speech)
        elif isinstance(speech, UtteranceAudio):
            utterance = self._find(speech.utterance)
            if utterance is not None:
                self._announce(self.outbox.extend(utterance, speech.pcm))
        else:
            utterance = self._find(speech.utterance)
            if utterance is not None:
                self._end(utterance, speech)

    def _begin(self, speech: UtteranceStarted) -> None:
        unfinished = self.outbox.open
        if unfinished is not None:  # the gate lost its end; close it, nothing stays open for ever
            self._end(
                unfinished, UtteranceEnded(unfinished.number, speech.at_s, 0.0, EndReason.CUT)
            )
        before = self._last_utterance()
        joins = before is not None and before.joins_next and self._join_by_s is not None
        turn = before.turn if joins and before is not None else self._turns.next_number()
        utterance = Utterance(
            speech.utterance, turn, bytearray(speech.pcm), waited=not self.is_attached
        )
        self._announce(self.outbox.add(utterance))

    def _end(self, utterance: Utterance, speech: UtteranceEnded) -> None:
        utterance.end = speech
        utterance.ended_at_s = speech.at_s
        if speech.reason is EndReason.MAX_LENGTH:
            self._join_by_s = speech.at_s + JOIN_S
        if speech.reason is EndReason.DISCARDED:
            self.outbox.remove(utterance)
            if self._activity is utterance and self.is_attached:
                self._turns.user_dropped()
                self._close_activity()

    def enter(self, text: str, *, asks: bool, now: float, once: bool = False) -> bool:
        """Take a typed text: a question, or context without an answer; False if too many wait.

        Args:
            once: it is not asked again when its connection breaks.
        """
        if self.outbox.full_of_texts:
            return False
        turn = self._turns.next_number() if asks else 0
        waited = not self.is_attached
        typed = Typed(whole_text(text), asks, turn, now, waited=waited, once=once)
        self._announce(self.outbox.add(typed))
        return True

    # ── the connection ──

    @property
    def is_attached(self) -> bool:
        """Return whether there is a connection to send on."""
        return self._line.connection is not None

    def attach(
        self,
        connection: int,
        *,
        consumed: int | None,
        indexed: bool,
        first: ClientMessage | None,
        now: float,
    ) -> None:
        """Begin to send on a new connection.

        Args:
            consumed: the log position that its state reaches; then the log is replayed, else
                the outbox.
            indexed: messages are numbered on this connection.
            first: goes out before anything else (restored context).
        """
        self._line.open(connection, indexed=indexed)
        pending = self.log.after(consumed) if indexed else None
        spoken, texts = self.outbox.drop_worn(now)
        self._announce(spoken)
        for item in texts:
            self._turns.give_up(item.turn, 0, "the service ended every connection on it")
        if pending is None or consumed is None:
            self._activity = None
            self.outbox.rewind()
            self.log.clear()
            self.log.begin_connection(self.log.end)
            if first is not None:
                self._line.send(first)
        else:
            self.log.begin_connection(consumed)
            self._go_on_after(pending, now)

    def _go_on_after(self, pending: list[Sent], now: float) -> None:
        """Send the rest of the log first, in the old order, then go on (index replay)."""
        waiting = {utterance.number for utterance in self._spoken()}
        kept = without_stale(pending, settled(pending, waiting))
        for utterance in self._spoken():
            if utterance.sent:
                utterance.waited = False
        self._send_again(kept, now)
        activity = self._activity
        if activity is not None and activity in self.outbox:
            self._turns.user_continued(activity.turn)
            self._line.light(activity.number, replay=True)
            return
        self._line.unlight()
        if activity is None:
            return
        if _starts(kept, activity.number) or not _starts(pending, activity.number):
            self._close_activity()  # it was lost or unwanted meanwhile, but the service has it open
        else:
            self._activity = None

    def _send_again(self, pending: list[Sent], now: float) -> None:
        for sent in pending:
            if isinstance(sent.message, ActivityStart | RealtimeAudio):
                self._line.light(sent.utterance or 0, replay=True)
            self._line.send_again(sent)
            if isinstance(sent.message, ActivityEnd):
                self._line.unlight()
                self._ask_again(sent.utterance, now)
        audio = [sent for sent in pending if isinstance(sent.message, RealtimeAudio)]
        if audio:
            bytes_again = sum(
                len(s.message.pcm) for s in audio if isinstance(s.message, RealtimeAudio)
            )
            utterances = len({sent.utterance for sent in audio})
            self._tell_replay(utterances, bytes_again / UPLINK_BYTES_PER_MS, "index")

    def _ask_again(self, number: int | None, now: float) -> None:
        """Await the answer to a question whose rest was sent again."""
        utterance = next((u for u in self._spoken() if u.number == number), None)
        if utterance is not None and utterance.end is not None:
            end = utterance.end
            self._turns.asked(utterance.turn, end.speech_ms, end.at_s, now, utterance.number)

    def detach(self) -> None:
        """Stop sending: the connection is gone."""
        if not self._line.indexed:
            if self._activity is not None:
                self._activity.done = False  # its end was not sent: too old, it is lost speech
            self._activity = None
        self._line.close()
        self.outbox.mark_waiting()

    # ── sending ──

    def tick(self, now: float) -> None:
        """Announce what has become too old, and send what may be sent."""
        lost, given_up = self.outbox.expire(now, live=self.is_attached)
        self._announce(lost)
        for item in given_up:  # delivered, and never answered
            number = item.number if isinstance(item, Utterance) else 0
            self._turns.give_up(item.turn, number, NO_ANSWER)
        self._pump(now)

    def deadline(self) -> float | None:
        """Return when `tick` should be called next, if ever."""
        times = [self.outbox.next_expiry_s(live=self.is_attached), self._join_by_s]
        return min((at_s for at_s in times if at_s is not None), default=None)

    def _pump(self, now: float) -> None:
        if self._join_by_s is not None and now >= self._join_by_s:
            self._end_join(now)
        if not self.is_attached:
            return
        replays = [u for u in self._spoken() if u.waited and not u.done]
        while (item := self.outbox.first_pending()) is not None and self._advance(item, now):
            pass
        again = [u for u in replays if u.sent]
        for utterance in again:
            utterance.waited = False
        if again:
            self._tell_replay(len(again), sum(u.audio_ms for u in again), "utterance")

    def _advance(self, item: Item, now: float) -> bool:
        """Send what can be sent of the oldest item; True if it is done and the next may follow."""
        if self.held or (self.muted and isinstance(item, Utterance)):
            return False
        if isinstance(item, Typed):
            return self._send_text(item, now)
        if not item.opened:
            self._open(item, now)
        self._send_audio(item)
        if not item.complete:
            return False
        item.done = True
        if not self._goes_on(item):
            self._deliver_activity(item, now)
        return True

    def _goes_on(self, item: Utterance) -> bool:
        """Return whether the same speech continues in the next utterance, here or still to come."""
        if not item.joins_next:
            return False
        items = list(self.outbox)
        place = items.index(item) + 1
        if place < len(items):
            following = items[place]
            return isinstance(following, Utterance) and following.turn == item.turn
        return self._join_by_s is not None

    def _open(self, utterance: Utterance, now: float) -> None:
        utterance.opened = True
        joined = self._activity is not None
        self._activity = utterance
        if joined:
            self._join_by_s = None
            self._turns.user_continued(utterance.turn)
            return
        self._turns.user_started(utterance.turn, now)
        self._line.light(utterance.number, replay=utterance.waited)
        if self.settings.local_activity:
            self._line.send(ActivityStart(), utterance.number)

    def _send_audio(self, utterance: Utterance) -> None:
        """Send the first audio at once, then whole pieces, and what is left at the end."""
        end = len(utterance.pcm)
        flush = utterance.complete or utterance.sent == 0
        while utterance.sent < end and (flush or end - utterance.sent >= PIECE_BYTES):
            piece = bytes(utterance.pcm[utterance.sent : utterance.sent + MAX_MESSAGE_BYTES])
            utterance.sent += len(piece)
            self._line.send(RealtimeAudio(piece), utterance.number)

    def _deliver_activity(self, utterance: Utterance, now: float) -> None:
        """End the activity: the question is asked."""
        self._close_activity()
        end = utterance.end
        assert end is not None
        self._turns.asked(utterance.turn, end.speech_ms, end.at_s, now, utterance.number)

    def _close_activity(self) -> None:
        assert self._activity is not None
        number = self._activity.number
        self._activity = None
        self._join_by_s = None
        if self.settings.local_activity:
            self._line.send(ActivityEnd(), number)
        else:
            for _ in range(0 if self.muted else self.settings.trailing_pieces):
                self._line.send(Silence(), number)
            self._line.send(AudioStreamEnd(), number)
        self._line.unlight()

    def _end_join(self, now: float) -> None:
        """Ask what there is: the rest of a split utterance never came."""
        self._join_by_s = None
        activity = self._activity
        if self.is_attached and activity is not None and activity.done:
            self._deliver_activity(activity, now)

    def _send_text(self, item: Typed, now: float) -> bool:
        if self._activity is not None:
            return False  # the user is speaking; a text in between would interrupt them
        if not item.asks:
            # Any clientContent interrupts a reply, also one that is received and still played;
            # wait, unless the next item does so anyway.
            behind = any(other is not item and not other.done for other in self.outbox)
            if not self._turns.quiet and not behind:
                return False
        elif item.waited:
            self.replayed_count += 1
        message: ClientMessage
        if self.settings.client_content:
            message = ClientContent((Content("user", item.text),), turn_complete=item.asks)
        else:
            message = RealtimeText(item.text)
        self._line.send(message)
        if item.asks:
            # settles what was asked before, also under a higher number; this one is not done yet
            self._turns.asked(item.turn, 0.0, now, now, telling=item.once)
        item.done = True
        if item.once or not item.asks:
            self.outbox.remove(item)
        return True

    def send(self, message: ClientMessage) -> bool:
        """Send something that is not speech; False without a connection."""
        if not self.is_attached:
            return False
        self._line.send(message)
        return True

    # ── what must not be sent ──

    def mute(self, now: float) -> None:
        """Close every path by which sound could leave; what waits is dropped and announced."""
        if self.muted:
            return
        self.muted = True
        self._out.add(PurgeAudio())
        speaking = self._activity
        self._announce(
            lost
            for lost in self.outbox.clear(now, "muted")
            if speaking is None or lost.utterance != speaking.number
        )
        self.log.drop_audio()
        if speaking is not None and self.is_attached:
            end = speaking.end or UtteranceEnded(
                speaking.number, now, speaking.audio_ms, EndReason.CUT
            )
            speaking.end = end
            self._deliver_activity(speaking, now)
        self._activity = None
        self._line.unlight()

    def unmute(self) -> None:
        """Allow speech again; what was going on meanwhile stays unheard."""
        self.muted = False

    def stop(self, now: float) -> None:
        """Announce what was not delivered: speech is never written to disk."""
        self._announce(self.outbox.clear(now, "the device stopped"))

    def forget(self, now: float) -> None:
        """Drop everything."""
        self.outbox.clear(now, "forgotten")
        self.log.clear()
        self._activity = None
        self._join_by_s = None

    # ── the rest ──

    @property
    def idle(self) -> bool:
        """Return whether nothing is being said and nothing waits."""
        return self._activity is None and self.outbox.first_pending() is None

    def _spoken(self) -> list[Utterance]:
        return [item for item in self.outbox if isinstance(item, Utterance)]

    def _last_utterance(self) -> Utterance | None:
        return next(reversed(self._spoken()), None)

    def _find(self, number: int) -> Utterance | None:
        utterance = self.outbox.open
        return utterance if utterance is not None and utterance.number == number else None

    def _announce(self, losses: Iterable[Lost]) -> None:
        for lost in losses:
            self.lost_count += 1
            self._out.emit(
                SpeechLost(
                    utterance=lost.utterance,
                    speech_ms=lost.audio_ms,
                    age_s=lost.age_s,
                    cause=lost.cause,
                )
            )

    def _tell_replay(self, utterances: int, audio_ms: float, way: str) -> None:
        self.replayed_count += utterances
        connection = self._line.connection
        assert connection is not None
        self._out.emit(
            Replayed(connection=connection, utterances=utterances, audio_ms=audio_ms, way=way)
        )


def _starts(messages: list[Sent], utterance: int) -> bool:
    return any(
        sent.utterance == utterance and isinstance(sent.message, ActivityStart) for sent in messages
    )
