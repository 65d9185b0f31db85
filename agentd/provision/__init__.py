"""How settings and keys come onto the device: the boot partition, `agentd-set-key`."""
