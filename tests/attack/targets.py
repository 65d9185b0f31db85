"""The attacks that run in this process."""

from __future__ import annotations

from tests.attack.boot import Boot
from tests.attack.clocks import Clocks
from tests.attack.control import Control
from tests.attack.conversation import Conversation
from tests.attack.credentials import Files
from tests.attack.documents import Documents
from tests.attack.handshakes import Handshakes
from tests.attack.settings_files import SettingsFiles
from tests.attack.sounds import Sounds
from tests.attack.tool_hosts import OfferingHost

IN_PROCESS = (
    Conversation,
    Handshakes,
    Control,
    OfferingHost,
    SettingsFiles,
    Boot,
    Documents,
    Clocks,
    Sounds,
    Files,
)
