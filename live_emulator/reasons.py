"""Close codes and reasons as people saw them on the real service.

Their sources are in docs/developer/emulator.md.
"""

from __future__ import annotations

INVALID_ARGUMENT = "Request contains an invalid argument."
NOT_IMPLEMENTED = "Operation is not implemented, or supported, or enabled."
INTERNAL_ERROR = "Internal error encountered."
EXPLICIT_ACTIVITY = (
    "Explicit activity control is not supported when automatic activity detection is enabled."
)
GO_AWAY = (
    "Connection aborted because the client failed to close the connection after receiving a "
    "GoAway signal once the session duration limit was reached."
)
SESSION_NOT_FOUND = "BidiGenerateContent session not found"
ENTITY_NOT_FOUND = "Requested entity was not found."
INVALID_HANDLE = "Invalid session handle"
QUOTA = (
    "You exceeded your current quota, please check your plan and billing details. For more "
    "information on this error, head to: https://ai.google.dev/gemini-api/docs/rate-limits."
)
TOO_MANY_SESSIONS = (
    "Request trace id: 0000000000000000, [ORIGINAL ERROR] generic::resource_exhausted: "
    "RESOURCE_EXHAUSTED: Maximum concurrent sessions reached."
)
IDLE = "The operation was aborted."
BAD_KEY = "API key not valid. Please pass a valid API key."
BAD_TOKEN = "Request had invalid authentication credentials."  # noqa: S105 - a message
TOKEN_UNKNOWN = "Auth token not found."  # noqa: S105 - messages; how they are worded is a guess
TOKEN_EXPIRED = "Auth token has expired."  # noqa: S105
TOKEN_LATE = "Auth token can no longer be used to start a new session."  # noqa: S105
TOKEN_USED = "Auth token has no uses left."  # noqa: S105
LEVEL_MISSING = "Thinking level must be specified for this model."
LEVEL_UNSUPPORTED = "Thinking level is not supported for this model."
SCHEDULING_UNSUPPORTED = "Function response scheduling is not supported for this model."
BLOCKING_UNSUPPORTED = "BLOCKING function calls are not supported for this model."
BAD_ROLE = "Please use a valid role: user, model."
