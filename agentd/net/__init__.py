"""The network path underneath the session."""
