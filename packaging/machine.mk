# The arm64 package on a booted machine, in software. Included by the Makefile.

# Not part of `make test`: it needs root, a Debian mirror at the first run, and the better part of an
# hour. CHECK=talk runs one of tests/machine/check_*.py.
.PHONY: test-machine
test-machine: setup ## boot an arm64 machine in qemu, install the package, torment it; CHECK=talk
	packaging/test-machine $(addprefix tests/machine/check_,$(addsuffix .py,$(CHECK))) $(MACHINE_ARGS)
