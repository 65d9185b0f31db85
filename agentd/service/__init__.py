"""The daemon's face to systemd, journald and the local user."""
