"""Packages, installed by apt into booted containers: `make test-package`."""
