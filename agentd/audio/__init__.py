"""Sound in and out: devices, capture, echo, playback."""
