"""A Live API server for tests, the demo and the doctor; speaks both backends.

>>> from live_emulator import Emulator, EmulatorOptions
>>> async with Emulator(EmulatorOptions(reply="parrot")) as emulator:  # doctest: +SKIP
...     print(emulator.base_url, emulator.ca_file)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from live_emulator.effects import Utterance
    from live_emulator.faults import Fault
    from live_emulator.options import EmulatorOptions
    from live_emulator.record import Entry, Record
    from live_emulator.scenario import Scenario, ScriptedCall, ScriptedTurn, load_scenario
    from live_emulator.server import Emulator

__all__ = [
    "Emulator",
    "EmulatorOptions",
    "Entry",
    "Fault",
    "Record",
    "Scenario",
    "ScriptedCall",
    "ScriptedTurn",
    "Utterance",
    "load_scenario",
]

_HOME = {
    "Emulator": "server",
    "EmulatorOptions": "options",
    "Entry": "record",
    "Fault": "faults",
    "Record": "record",
    "Scenario": "scenario",
    "ScriptedCall": "scenario",
    "ScriptedTurn": "scenario",
    "Utterance": "effects",
    "load_scenario": "scenario",
}


def __getattr__(name: str) -> Any:
    """Import on first use: ``agentd emulator --help`` needs neither TLS nor WebSockets."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOME[name]}", __name__), name)
