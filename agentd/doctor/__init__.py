"""`agentd doctor`: looks at everything a voice needs and names what is wrong and what to do.

    shells (look at the machine) ──► facts ──► judges (pure) ──► findings ──► report

Nothing here is imported by the daemon.
"""
