"""How a change of instruction, functions or settings reaches the service (pure).

now             by a message of role `system`, or nothing at the service is concerned
context_update  by `contextUpdate`, where the model takes it
on_resume       by the setup of the next connection, at the next quiet moment
fresh           likewise, but no handle leads there: another model, backend or project
"""

from __future__ import annotations

from dataclasses import replace

from agentd.config.settings import Settings
from agentd.live.calls import Calls
from agentd.live.capabilities import Capabilities
from agentd.live.failures import Failure, Kind, Phase
from agentd.live.machine import State
from agentd.live.memory import Memory
from agentd.live.messages import ClientContent, Content, ContextUpdate, ToolsUpdate
from agentd.live.plan import differs, same_session
from agentd.live.supervisor import Supervisor
from agentd.live.turns import Turns
from agentd.live.uplink import Uplink, uplink_settings


class Updates:
    """Brings changes to the session that there is, or has it left for the next."""

    def __init__(
        self,
        settings: Settings,
        caps: Capabilities,
        *,
        memory: Memory,
        calls: Calls,
        turns: Turns,
        uplink: Uplink,
        supervisor: Supervisor,
    ) -> None:
        self._settings = settings
        self._caps = caps
        self._memory = memory
        self._calls = calls
        self._turns = turns
        self._uplink = uplink
        self._supervisor = supervisor
        self._instruction_due = False
        self._tools_due = False

    def connected(self) -> None:
        """Note that a setup has carried everything."""
        self._instruction_due = self._tools_due = False

    def tick(self, now: float) -> None:
        """Send what waited for a moment in which it interrupts nothing."""
        del now
        self._send_instruction()
        self._send_tools()

    def instruct(self, now: float) -> str:
        """Bring the instruction in force to the service in the best way there is; return which."""
        if not self._supervisor.is_live:
            return "on_resume"
        if self._caps.system_role:
            self._instruction_due = True
            return "now"
        if self._caps.context_update:
            self._uplink.send(ContextUpdate(self._memory.instruction))
            return "context_update"
        self._supervisor.leave_when_quiet("new instruction", now)
        return "on_resume"

    def _send_instruction(self) -> None:
        if not self._instruction_due or self._turns.speaking is not None:
            return
        if not self._turns.quiet and self._uplink.idle:
            return
        content = Content("system", self._memory.instruction)
        if self._uplink.send(ClientContent((content,), turn_complete=False)):
            self._instruction_due = False

    def declare_tools(self, now: float) -> str:
        """Declare the functions anew in the best way there is; return which."""
        if self._supervisor.is_live:
            if self._caps.tools_update:
                self._tools_due = True
                return "context_update"
            self._supervisor.leave_when_quiet("new functions", now)
        elif self._supervisor.state is State.DIALING:  # its setup may name the old ones
            failure = Failure(Phase.SETUP, Kind.LOCAL, reason="new functions")
            self._supervisor.abandon(failure, now, planned=True)
        elif self._supervisor.is_setup_refused:  # perhaps over the old ones
            self._supervisor.retry_now(now)
        return "on_resume"

    def _send_tools(self) -> None:
        """Declare other functions when nobody speaks: the model works anew through all it holds."""
        if self._tools_due and self._turns.quiet and self._uplink.idle and not self._calls.pending:
            self._tools_due = not self._uplink.send(ToolsUpdate(self._settings.tools.enabled))

    def configure(self, settings: Settings, caps: Capabilities, now: float) -> str:
        """Bring new settings to the session; return by which way."""
        before, self._settings, self._caps = self._settings, settings, caps
        changed = differs(before, settings)
        how = "on_resume" if same_session(before, settings) else "fresh"
        if self._supervisor.retry_now(now):  # this is what a person waits for
            return how
        if not changed:
            # how speech is framed belongs to the setup of the present connection
            framing = self._uplink.settings.local_activity
            self._uplink.configure(replace(uplink_settings(settings, caps), local_activity=framing))
            return "now"
        if changed == {"system_instruction"} and self._supervisor.is_live:
            return self.instruct(now)
        if changed == {"tools"}:
            return self.declare_tools(now)
        if self._supervisor.is_live:
            self._supervisor.leave_when_quiet("reloaded", now)
        elif self._supervisor.state is State.DIALING:
            failure = Failure(Phase.SETUP, Kind.LOCAL, reason="reloaded")
            self._supervisor.abandon(failure, now, planned=True)
        return how
