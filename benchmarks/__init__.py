"""Benchmarks: agentd beside the least that does the job and the smallest honest SDK script."""
