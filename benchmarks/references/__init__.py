"""What agentd is measured against, each a program of its own."""
