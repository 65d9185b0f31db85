"""What a transcript says about going on: a thank you ends it, a question keeps it open. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from agentd.events import Speaker, TranscriptText

LONGEST = 80  # characters of a thank you; longer, it is one in passing
NAME_WORDS = 2
KEPT = 200  # characters of what was said that are looked at

# Said alone, perhaps to the device by a name: what comes before is cut off at a comma.
THANKS = frozenset(
    """
    thanks|thank you|thank you very much|thanks a lot|many thanks|no thanks|no thank you|
    that's all|that is all|that's it|never mind|nevermind|goodbye|good bye|bye|okay thanks|
    okay thank you|great thanks|great thank you|
    terima kasih|makasih|terima kasih banyak|sudah cukup|tidak terima kasih|
    danke|danke schön|vielen dank|nein danke|das war's|das wars|
    merci|merci beaucoup|non merci|gracias|muchas gracias|no gracias|grazie|grazie mille|
    dank je|dank je wel|bedankt|tack|tack så mycket|obrigado|obrigada|
    ありがとう|ありがとうございます|감사합니다|고마워|谢谢
    """.replace("\n", "")
    .replace("    ", "")
    .split("|")
)
QUESTION_MARKS = ("?", "？", "؟", "¿")
CLOSING = " \t\n\"'”’»)*"


@dataclass(frozen=True, slots=True)
class Courtesy:
    """The newest words of each side in the turn under way; never kept longer."""

    turn: int = -1
    user: str = ""
    model: str = ""

    def after(self, text: TranscriptText) -> Courtesy:
        """Return the value once a piece of transcript has come."""
        value = self if text.turn == self.turn else Courtesy(text.turn)
        if text.speaker is Speaker.USER:
            # A long text stays long: cut at its end only, it is no thank you.
            return replace(value, user=(value.user + text.text)[:KEPT])
        return replace(value, model=(value.model + text.text)[-KEPT:])

    @property
    def is_thanks(self) -> bool:
        """Return whether the user has said thank you, or goodbye, and nothing else."""
        if len(self.user) > LONGEST:
            return False
        parts = [_plain(part) for part in self.user.replace(".", ",").replace("!", ",").split(",")]
        others = [part for part in parts if part not in THANKS]
        # Beside it a name at most: "thank you, computer".
        return len(others) < len(parts) and len(" ".join(others).split()) <= NAME_WORDS

    @property
    def is_question(self) -> bool:
        """Return whether the reply, as far as it is known, ends in a question."""
        return self.model.rstrip(CLOSING).endswith(QUESTION_MARKS)


def _plain(text: str) -> str:
    text = text.casefold().replace("’", "'")
    return " ".join("".join(c if c.isalnum() or c == "'" else " " for c in text).split())
