"""The packaged product on a booted arm64 machine: `make test-machine`."""
