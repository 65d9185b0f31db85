"""The network path to the service, as the kernel sees it."""
