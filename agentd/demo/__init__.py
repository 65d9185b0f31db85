"""`agentd demo`: the whole product in a minute, without a key or a sound card."""
