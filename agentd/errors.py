"""The error tree. Every message says what is wrong and what to do about it.

How a failure of the Live connection is classed (retry, reset, fatal) is decided in
`agentd.live.failures` and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

from agentd.text import safe_text

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_CONFIG = 78  # sysexits.h EX_CONFIG; the unit does not restart on it


# Characters shown of each part of a problem.
_PROBLEM_LIMITS = {"file": 400, "key": 120, "value": 80, "problem": 300, "remedy": 800}


class AgentdError(Exception):
    """Anything that agentd itself raises on purpose."""


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One wrong value: where it stands, what it is, what is allowed, what to do.

    All of it may be somebody else's words (a file on a boot partition): each is made safe for a
    line of a terminal, and bounded.
    """

    file: str
    key: str
    value: str
    problem: str
    remedy: str

    def __post_init__(self) -> None:
        """Make every part fit for one line."""
        for name, limit in _PROBLEM_LIMITS.items():
            object.__setattr__(self, name, safe_text(getattr(self, name), limit))

    def __str__(self) -> str:
        shown = f" = {self.value}" if self.value else ""
        return f"{self.file}: {self.key}{shown}: {self.problem}. {self.remedy}"


class ConfigError(AgentdError, ValueError):
    """The configuration cannot be used; carries every problem found, not just the first."""

    def __init__(self, problems: tuple[ConfigProblem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class CredentialError(AgentdError):
    """A key or service-account file is missing, unreadable or malformed."""


class AlreadyRunning(AgentdError):
    """Another daemon has the directory or the socket that this one would use."""


class AudioError(AgentdError, OSError):
    """A sound device does not do what is asked of it."""


class DeviceNotFound(AudioError):
    """No such PCM, card or file."""


class DeviceBusy(AudioError):
    """Another program holds the device."""


class UnsupportedFormat(AudioError):
    """A WAV file or a device in a format that cannot be converted."""


class DeviceWedged(AudioError):
    """A call into the sound system does not return; its thread was abandoned."""


class CaptureFailed(AudioError):
    """The microphone went away or stopped delivering frames."""


class PlaybackFailed(AudioError):
    """The speaker went away or stopped consuming samples."""


class StateError(AgentdError, OSError):
    """A state file cannot be read or written."""


class LiveError(AgentdError):
    """The Live connection failed; `code` is a WebSocket close or HTTP status, if there was one."""

    def __init__(self, message: str, *, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class ControlError(AgentdError):
    """A control request was refused or could not be delivered."""


class GpioError(AgentdError):
    """A pin or the GPIO chip cannot be used; `remedy` may be empty."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy
