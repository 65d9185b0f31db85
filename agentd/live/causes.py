"""Every cause of a missing connection: what is done about it, and what each place says of it.

This is the one home of remedies and of the policy of retrying. The journal (`disconnected`,
`refused`), `agentd status`, the doctor and the voice of the button read it; the table in
docs/user/troubleshooting.md is written from it (`make docs`). Which failure has which cause is
decided in `agentd.live.failures`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

FATAL_INTERVAL_S = 300.0
SHORT_INTERVAL_S = 60.0
CALM_S = 30.0


class Handling(enum.Enum):
    """What to do about a failure."""

    RETRY = "retry"  # dial again with the same handle, by backoff
    RESET = "reset"  # the handle is dead: drop it and go one rung down the ladder
    QUOTA = "quota"  # dial again with the same handle, slowly
    FATAL = "fatal"  # a person must fix something: long interval, the remedy is told


class Check(enum.Enum):
    """The check of `agentd doctor` that finds it."""

    CREDENTIAL = "credential"
    CLOCK = "clock"
    TRUST = "trust"
    PROXY = "proxy"
    DNS = "dns"
    TLS = "tls"
    SESSION = "session"


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause, from the meaning to the remedy.

    `name` is what `disconnected`, `refused` and `session.trouble` of the status carry. `interval_s`
    is the time between dials of FATAL, and the least time between dials of RETRY.
    """

    name: str
    meaning: str
    action: Handling
    remedy: str
    own: str = ""  # the remedy where live.base_url or a variable names the endpoint
    check: Check = Check.SESSION
    voice: str = "reconnecting"  # the clip that the button plays
    interval_s: float = 0.0
    cured_by_path: bool = False  # another network may be all it needs

    def remedy_for(self, *, own_endpoint: bool, variable: str = "") -> str:
        """Return what to do; `variable` is the environment variable that led there."""
        words = self.own if own_endpoint and self.own else self.remedy
        return words.replace("{variable}", variable or "https_proxy")


_WAIT = "Nothing: agentd goes on by itself"
_KEY = (
    "Put a valid key or service account in place (`sudo agentd-set-key`); `agentd doctor` tests it"
)
_MODEL = "Check live.model, live.location and live.api_version, then reload"
_OTHER_MODEL = "Choose another live.model, or set tools.enabled = false, then reload"
_SETUP = "Check the [live] section against the model's documentation, then reload"
_RESTART = "then `sudo systemctl restart agentd`"
_SIGN_IN = (
    "Sign in to this network with a browser, use another one, or, if it is your own proxy,"
    " name its certificate in SSL_CERT_FILE"
)
_SIGN_IN_OWN = f"Correct live.base_url, or: {_SIGN_IN}"
_SET_CLOCK = (
    "Set the clock: `sudo timedatectl set-ntp true`, and let NTP (UDP port 123) through the router"
)
_NAME_SERVER = (
    "Connect to a network that has a name server that answers: `ip route` must show a default"
    " route, /etc/resolv.conf a nameserver"
)
_FIREWALL = (
    "Check the network (`ip route get 1.1.1.1`) and let TCP port 443 through the firewall;"
    " if other devices work, wait for the service"
)
_PROXY_RUNS = "Start the proxy that {variable} names, or correct or remove {variable}, " + _RESTART
SETUP_REMEDIES = {
    "no matching speaker voice": "Choose another live.voice, then reload",
    "unsupported language": "Choose another live.language, then reload",
    "response modalities": _MODEL,
    "explicit activity control": 'Set live.activity_detection = "server", then reload',
    # of openclaw/openclaw#152413 and published probes of September 2026
    "thinking level must be specified": 'Set live.thinking_level = "low", then reload',
    "thinking level": "Remove live.thinking_level or choose another live.model, then reload",
    "function response scheduling": _OTHER_MODEL,
    "blocking function calls": _OTHER_MODEL,
    "invalid json payload": _SETUP,
}
"""What to do about "setup refused" when the service's words (lower case) name the setting."""

_R, _X, _Q, _F = Handling.RETRY, Handling.RESET, Handling.QUOTA, Handling.FATAL
_LONG, _SHORT = FATAL_INTERVAL_S, SHORT_INTERVAL_S

CAUSES: tuple[Cause, ...] = (
    # what is ours
    Cause("closed by us", "agentd ended it itself", _R, _WAIT),
    Cause(
        "credential",
        "there is no usable key, service account or login",
        _F,
        _KEY,
        check=Check.CREDENTIAL,
        voice="no_key",
        interval_s=_SHORT,
    ),
    Cause(
        "login refused",
        "Google takes this account or login no longer: expired, revoked or deleted",
        _F,
        "Download the JSON key of the service account again, or log in again"
        " (`gcloud auth application-default login`)",
        voice="refused",
        interval_s=_LONG,
    ),
    Cause(
        "token service unreachable",
        "Google's token service, which turns an account into a token, gives none",
        _R,
        "Check the network; let HTTPS to oauth2.googleapis.com (or the account's token_uri) through"
        " the firewall",
    ),
    Cause(
        "endpoint address",
        "the endpoint's address is unusable: not https, or no host",
        _F,
        "Write https://HOST[:PORT] there, or remove it for Google's own endpoint",
        check=Check.DNS,
        voice="settings",
        interval_s=_LONG,
    ),
    Cause(
        "trust store",
        "SSL_CERT_FILE or SSL_CERT_DIR names no usable certificates",
        _F,
        f"Let the variable name a readable PEM file of certificates, or remove it, {_RESTART}",
        check=Check.TRUST,
        voice="settings",
        interval_s=_SHORT,
    ),
    Cause(
        "proxy setting",
        "a proxy variable of the environment is unusable",
        _F,
        "Write {variable}=http://HOST:PORT, remove it, or name the service in no_proxy, "
        + _RESTART,
        check=Check.PROXY,
        voice="proxy",
        interval_s=_LONG,
    ),
    # the way to a proxy
    Cause(
        "proxy name",
        "the proxy's name cannot be looked up",
        _R,
        "Correct the name in {variable} or mend the name server, " + _RESTART,
        check=Check.PROXY,
        voice="proxy",
    ),
    Cause(
        "proxy unreachable",
        "nobody answers where the proxy should be",
        _R,
        _PROXY_RUNS,
        check=Check.PROXY,
        voice="proxy",
    ),
    Cause(
        "proxy tls",
        "the TLS handshake with the proxy itself (https://) fails",
        _F,
        "Use http:// in {variable} if the proxy speaks no TLS, or name its certificate in"
        " SSL_CERT_FILE, " + _RESTART,
        check=Check.PROXY,
        voice="proxy",
        interval_s=_SHORT,
        cured_by_path=True,
    ),
    Cause(
        "proxy refuses",
        "the proxy wants a login, or does not let the service through",
        _F,
        "Put the proxy's login into {variable} (http://NAME:PASSWORD@HOST:PORT), let the proxy"
        " CONNECT to the service, or name the service in no_proxy, " + _RESTART,
        check=Check.PROXY,
        voice="proxy",
        interval_s=_LONG,
        cured_by_path=True,
    ),
    Cause(
        "proxy failed",
        "the proxy answers that it cannot reach the service",
        _R,
        "Check the proxy's own network and name server",
        check=Check.PROXY,
        voice="proxy",
    ),
    Cause(
        "no proxy there",
        "what answers in the proxy's place is no HTTP proxy",
        _F,
        "Correct host and port in {variable}, " + _RESTART,
        check=Check.PROXY,
        voice="proxy",
        interval_s=_SHORT,
        cured_by_path=True,
    ),
    # the way to the service
    Cause(
        "no such name",
        "the name server says that the service's name does not exist",
        _R,
        "Check the network's name server (a filter?); if none is configured: `resolvectl status`",
        "Correct the name in live.base_url, or add it to the name server",
        check=Check.DNS,
        voice="no_network",
    ),
    Cause(
        "dns",
        "no name server gives an answer",
        _R,
        _NAME_SERVER,
        check=Check.DNS,
        voice="no_network",
    ),
    Cause(
        "no route",
        "the network has no way there",
        _R,
        "Connect to a network: `ip route` must show a default route",
        check=Check.TLS,
        voice="no_network",
    ),
    Cause(
        "port refused",
        "the machine answers, and nobody listens at the port",
        _R,
        "Let TCP port 443 through the firewall",
        "Start what should listen there, or correct live.base_url",
        check=Check.TLS,
    ),
    Cause(
        "unreachable",
        "no address of the service answers",
        _R,
        _FIREWALL,
        check=Check.TLS,
    ),
    Cause(
        "handshake broken",
        "something ends the connection in the middle of the handshake",
        _R,
        "Check firewall and router (one that looks into TLS?); if other devices work, wait for"
        " the service",
        check=Check.TLS,
    ),
    Cause(
        "timeout",
        "it accepts the connection and says nothing",
        _R,
        "Check the firewall and proxy; if other devices work, wait for the service",
    ),
    Cause(
        "clock not set",
        "by a clock that nobody has set, the certificate is not valid now",
        _R,
        f"{_SET_CLOCK}. agentd goes on once it is set",
        check=Check.TLS,
        voice="clock",
        interval_s=CALM_S,
    ),
    Cause(
        "certificate",
        "nothing trusts the certificate: somebody else answers, or it is your own proxy",
        _F,
        _SIGN_IN,
        check=Check.TLS,
        voice="blocked",
        interval_s=_SHORT,
        cured_by_path=True,
    ),
    Cause(
        "certificate expired",
        "the certificate has expired, by a clock that is right",
        _F,
        _SIGN_IN,
        "Whoever runs the endpoint must renew its certificate",
        check=Check.TLS,
        voice="blocked",
        interval_s=_SHORT,
        cured_by_path=True,
    ),
    Cause(
        "certificate not yet valid",
        "the certificate is one of the future, by a clock that is right",
        _F,
        _SIGN_IN,
        "Whoever runs the endpoint must renew its certificate, or set its clock",
        check=Check.TLS,
        voice="blocked",
        interval_s=_SHORT,
        cured_by_path=True,
    ),
    Cause(
        "certificate name",
        "the certificate is for another name",
        _F,
        _SIGN_IN,
        "Let live.base_url have the name that the certificate is for, or: " + _SIGN_IN,
        check=Check.TLS,
        voice="blocked",
        interval_s=_SHORT,
        cured_by_path=True,
    ),
    Cause(
        "no tls",
        "what answers does not speak TLS: a login page, or a plain HTTP server",
        _F,
        _SIGN_IN,
        _SIGN_IN_OWN,
        check=Check.TLS,
        voice="blocked",
        interval_s=_SHORT,
        cured_by_path=True,
    ),
    Cause(
        "tls version",
        "the other side speaks no TLS version or cipher that this machine takes",
        _F,
        _SIGN_IN,
        "Let the endpoint speak TLS 1.2 or newer",
        check=Check.TLS,
        voice="blocked",
        interval_s=_SHORT,
        cured_by_path=True,
    ),
    Cause("tls", "the TLS handshake fails", _R, _FIREWALL, check=Check.TLS),
    Cause(
        "intercepted",
        "a page or a redirect comes in place of the service",
        _F,
        _SIGN_IN,
        _SIGN_IN_OWN,
        voice="blocked",
        interval_s=_SHORT,
        cured_by_path=True,
    ),
    # what the service says
    Cause(
        "credential refused",
        "the service does not take the key or account",
        _F,
        _KEY,
        voice="refused",
        interval_s=_LONG,
    ),
    Cause(
        "quota",
        "a quota is used up",
        _Q,
        "Wait, or raise the quota of the project at its provider",
        voice="quota",
    ),
    Cause(
        "billing",
        "the project may spend no more",
        _F,
        "Check billing and quota of the project at its provider; agentd keeps trying",
        voice="quota",
        interval_s=_LONG,
    ),
    Cause(
        "region refused",
        "the service is not offered where this device is",
        _F,
        'Use live.backend = "vertex" with a region where the service is offered',
        voice="settings",
        interval_s=_LONG,
        cured_by_path=True,
    ),
    Cause(
        "endpoint not found",
        "the service knows no such path (404)",
        _F,
        _MODEL,
        "Correct live.base_url, live.api_version or live.backend, then reload",
        voice="settings",
        interval_s=_LONG,
    ),
    Cause(
        "model refused",
        "the model does not exist, or not there",
        _F,
        _MODEL,
        voice="settings",
        interval_s=_LONG,
    ),
    Cause(
        "setup refused",
        "the service or its library refuses a setting",
        _F,
        _SETUP,
        voice="settings",
        interval_s=_LONG,
    ),
    Cause(
        "request refused",
        "the service refuses the request",
        _F,
        _SETUP,
        voice="settings",
        interval_s=_LONG,
    ),
    Cause("handle refused", "the service has forgotten the conversation", _X, _WAIT),
    Cause("aborted", "the service broke the setup off", _R, _WAIT, voice="busy"),
    Cause(
        "overloaded",
        "the service is busy",
        _R,
        "Wait: the service is busy, agentd keeps trying",
        voice="busy",
    ),
    Cause(
        "service error",
        "the service has a fault",
        _R,
        "Wait: the service has a fault, agentd keeps trying",
        voice="busy",
    ),
    # a connection that stood
    Cause("mute", "it stands, and the service says nothing any more", _R, _WAIT),
    Cause("connection lost", "the network broke under it", _R, "Often: check the Wi-Fi"),
    Cause("unusable frames", "what comes is no conversation", _R, _SIGN_IN, _SIGN_IN_OWN),
    Cause("go away", "its announced end", _R, _WAIT),
    Cause("going away", "the service restarts", _R, _WAIT),
    Cause("closed", "the service ended it", _R, _WAIT),
    Cause("refused", "the service ended it for something it was sent", _R, _WAIT),
)

BY_NAME = {cause.name: cause for cause in CAUSES}
CURED_BY_PATH = tuple(cause.name for cause in CAUSES if cause.cured_by_path)


def voice_of(name: str, otherwise: str = "reconnecting") -> str:
    """Return the clip that says why there is no connection; `otherwise` for an unknown cause."""
    cause = BY_NAME.get(name)
    return cause.voice if cause is not None else otherwise


def policy_text(cause: Cause) -> str:
    """Return when it is dialled again, for people."""
    if cause.action is Handling.RESET:
        return "at once, without the handle"
    if cause.action is Handling.QUOTA:
        return "after 5 s at least, up to 5 min"
    if cause.action is Handling.FATAL:
        return f"every {_interval(cause.interval_s)}, and on reload"
    if cause.interval_s:
        return f"after {_interval(cause.interval_s)} at least"
    return "at once, then more and more rarely (`live.backoff_max_s`)"


def _interval(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < SHORT_INTERVAL_S else f"{seconds / 60.0:.0f} min"


def markdown_table() -> str:
    """Return the table of all causes for docs/user/troubleshooting.md."""
    lines = [
        "| cause | what it is | found by | the button says | tried again | do |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for cause in CAUSES:
        own = f" With an endpoint of your own: {cause.own}." if cause.own else ""
        remedy = f"{cause.remedy_for(own_endpoint=False)}.{own}"
        cells = (f"`{cause.name}`", cause.meaning, cause.check.value, f"`{cause.voice}`")
        lines.append("| " + " | ".join((*cells, policy_text(cause), remedy)) + " |")
    return "\n".join(lines) + "\n"
