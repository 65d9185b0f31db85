"""Which session a setup leads to: a fresh one, or the one that its handle names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from live_emulator import reasons
from live_emulator.faults import FaultSchedule
from live_emulator.handshake import AuthForm, Credential
from live_emulator.models import Backend
from live_emulator.options import EmulatorOptions
from live_emulator.sessions import HandleState, Poison, Session, SessionStore
from live_emulator.setup import Setup
from live_emulator.tokens import Token, TokenBook
from live_emulator.wire import WireError


def _unscaled(seconds: float) -> float:
    return seconds


@dataclass(frozen=True, slots=True)
class Service:
    """What the connections of one emulator share."""

    options: EmulatorOptions
    store: SessionStore
    schedule: FaultSchedule = field(default_factory=FaultSchedule)
    tokens: TokenBook = field(default_factory=TokenBook)
    real_s: Callable[[float], float] = _unscaled
    """Service seconds to the client's seconds."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A session found or made."""

    session: Session
    resumed: bool = False
    poison: Poison = Poison.NONE
    taken_from: tuple[int, ...] = ()
    """Connections that this one takes the session from."""
    wrong_model: bool = False
    """Accepted, then closed 1011: what forum reports saw for a handle of another model."""


def check_credential(credential: Credential, options: EmulatorOptions) -> None:
    """Check a credential at setup.

    Raises:
        WireError: it is not one of those accepted.
    """
    accepted = options.accept_credentials
    if credential.form is AuthForm.EPHEMERAL:
        return  # minted here, or named among those accepted: find_token() knows
    if accepted is None or credential.value in accepted:
        return
    if credential.form is AuthForm.BEARER:
        raise WireError(1008, reasons.BAD_TOKEN)
    raise WireError(1007, reasons.BAD_KEY)


def find_token(credential: Credential, service: Service) -> Token | None:
    """Return the ephemeral token that a credential is, if it is one that was minted here.

    Raises:
        WireError: it is an ephemeral token that nobody minted or accepts.
    """
    if credential.form is not AuthForm.EPHEMERAL:
        return None
    named = credential.value in (service.options.accept_credentials or frozenset())
    refuse = not named and service.options.unknown_tokens == "refuse"
    return service.tokens.find(credential.value, refuse_unknown=refuse)


def open_session(setup: Setup, service: Service, now: float) -> Opened:
    """Find or make the session of a setup.

    Raises:
        WireError: the handle is dead, the session is open elsewhere, or there are too many.
    """
    handle = setup.resumption.handle if setup.resumption else ""
    if handle:
        return _resume(handle, setup, service, now)
    limit = service.options.max_sessions
    if limit is not None and service.store.open_sessions() >= limit:
        raise WireError(1011, reasons.TOO_MANY_SESSIONS)
    return Opened(service.store.create(setup.backend, setup.model.name, now))


def _resume(handle: str, setup: Setup, service: Service, now: float) -> Opened:
    store, options = service.store, service.options
    state, session = store.find(handle, now)
    if store.poison is Poison.REJECT_1007:
        raise WireError(1007, reasons.INVALID_HANDLE)
    if store.poison is Poison.REJECT_1008 or state is HandleState.EXPIRED:
        raise WireError(1008, reasons.SESSION_NOT_FOUND)
    if session is None or session.backend is not setup.backend:
        if setup.backend is Backend.VERTEX:
            raise WireError(1008, reasons.ENTITY_NOT_FOUND)
        raise WireError(1007, reasons.INVALID_HANDLE)
    wrong_model = session.model != setup.model.name
    if wrong_model and options.model_mismatch == "reject_1007":
        raise WireError(1007, reasons.INVALID_ARGUMENT)
    others = tuple(sorted(session.open_connections))
    if others and options.resume_while_open == "refuse":
        raise WireError(1011, reasons.INTERNAL_ERROR)
    if options.resume_while_open == "allow":
        others = ()
    if not wrong_model:
        session.open_connections.difference_update(others)
        store.resume(session, handle)
    return Opened(session, True, store.poison, others, wrong_model)
