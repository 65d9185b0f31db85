"""Other people's Live API clients on the emulator, each in an environment of its own."""
