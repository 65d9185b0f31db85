"""What the system sees of the daemon: readiness, watchdog, journal and control socket."""
