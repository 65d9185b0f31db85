"""agentd attacked: generators of hostile input, what must hold, and a runner (`make attack`)."""
