"""The command line: one parser, and a handler for each command."""
