"""agentd: a voice agent daemon for Raspberry Pi-class Linux speakers."""

__version__ = "0.1.0"
