# Debian packages, the apt repository and the booted containers that test them.
# Included by the Makefile; everything lands in build/ and dist/, roots in the user's cache.

SUITES ?= bookworm trixie
ARCHES ?= amd64 arm64

.PHONY: deb
deb: ## Debian packages into dist/; SUITES="bookworm trixie" ARCHES="amd64 arm64"
	packaging/build $(foreach s,$(SUITES),$(foreach a,$(ARCHES),$(s)/$(a)))

.PHONY: deb-reproducible
deb-reproducible: ## build everything twice, in two places, and compare the bytes
	packaging/reproducible $(foreach s,$(SUITES),$(foreach a,$(ARCHES),$(s)/$(a)))

.PHONY: apt-repo
apt-repo: deb ## a signed apt repository in dist/apt; APT_KEY=fingerprint, else a throw-away key
	packaging/apt-repo $(APT_KEY)

# Not part of `make test`: it needs root, a Debian mirror at the first run, and minutes.
.PHONY: test-package
test-package: setup ## install, boot and torment the packages; SUITES=…, ARCHES=…, PACKAGE_ARGS="-k reload"
	SUITES="$(SUITES)" ARCHES="$(ARCHES)" packaging/test $(PACKAGE_ARGS)

.PHONY: piuparts
piuparts: deb ## install, remove, purge the packages with piuparts (root, a mirror)
	packaging/piuparts $(SUITES)

# The wheels a device gets: what Debian provides in both suites is left to Debian.
DEBIAN_PROVIDES := pyaudio cryptography cffi pycparser gpiozero colorzero numpy urllib3 \
	certifi charset-normalizer distro sniffio pyasn1 pyasn1-modules setuptools
.PHONY: lock-device
lock-device: ## resolve requirements/device.lock anew, at the versions of the other locks
	@[ -x $(UV) ] || { /usr/bin/python3 -m venv .cache/uv && .cache/uv/bin/pip install -q uv; }
	$(UV) pip compile -q pyproject.toml --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --custom-compile-command "make lock-device" \
		$(foreach p,$(DEBIAN_PROVIDES),--no-emit-package $(p)) \
		--extra aec --extra gpio --extra vad --extra wake -c requirements/dev.lock -o requirements/device.lock
