"""The Live API session: one conversation over many connections."""
