"""Environment variables that C libraries read and this program changes, reserved at its start.

glibc before 2.41 lets `setenv` move the whole environment when a name is *added*, while `getenv`
walks it without a lock: a library that reads a variable on another thread at that moment reads
freed memory. PortAudio's threads, ALSA's plugins and libpulse read dozens while they start, and the
daemon has died of SIGSEGV at such moments. Giving a new value to a name that exists replaces one
pointer and keeps the old string, which is safe. So every name is added here, while there is one
thread, and only values change afterwards. (Source: glibc's `setenv.c`. A program of two readers and
a writer that adds names crashed in 4 runs of 12, one that changes values in none.)
"""

from __future__ import annotations

import os
from collections.abc import Mapping

ALSA_SYSTEM_CONF = "/usr/share/alsa/alsa.conf"


def defaults(environ: Mapping[str, str]) -> dict[str, str]:
    """Return each variable that is changed at run time, with the value that changes nothing."""
    return {
        "ALSA_CONFIG_PATH": ALSA_SYSTEM_CONF,
        "AGENTD_CAPTURE_PCM": "null",
        "AGENTD_PLAYBACK_PCM": "null",
        # PortAudio asks for a JACK server while it initialises, which would start one.
        "JACK_NO_START_SERVER": "1",
        # lgpio leaves a pipe in its working directory. (`tempfile` would cost every command 5 ms.)
        "LG_WD": environ.get("RUNTIME_DIRECTORY") or environ.get("TMPDIR") or "/tmp",  # noqa: S108
        # Silero's wheel asks its own copy of OpenMP for four threads per 32 ms of sound. They spend
        # their time waiting for each other: one alone needs a fifth of the CPU.
        "OMP_THREAD_LIMIT": "1",
        # numpy's OpenBLAS keeps a thread and 40 MiB of buffers for each core; frames of 10 ms are
        # far below what it would share out. The unit bounds address space (LimitDATA=).
        "OPENBLAS_NUM_THREADS": "1",
    }


def reserve() -> None:
    """Add what is missing; call it before the first thread starts."""
    for name, value in defaults(os.environ).items():
        os.environ.setdefault(name, value)
