"""A wake word's network on TensorFlow Lite's C library, and the features that it is fed.

The library and the features come with the extra `wake` (pymicro-wakeword, pymicro-features). The
library is called directly rather than through pymicro-wakeword's own class, which maps the model's
file (a file that shrinks under a mapping kills the process), passes on a null pointer when a model
cannot be parsed (so does that), and needs numpy. The C interface:
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/lite/core/c/c_api.h
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from agentd.vad.words import INSTALL, WordModel

FEATURES = 40  # in 10 ms
OK = 0
_TYPECODES = {3: "B", 9: "b"}  # kTfLiteUInt8, kTfLiteInt8
_RANGES = {"B": (0, 255), "b": (-128, 127)}
PROBE_S = 30.0

Features = Sequence[float]


class EngineFailed(Exception):
    """A model cannot be run; the message continues a sentence that begins with its name."""


class _Quantization(ctypes.Structure):
    _fields_ = (("scale", ctypes.c_float), ("zero_point", ctypes.c_int32))


_POINTER, _INT, _SIZE = ctypes.c_void_p, ctypes.c_int32, ctypes.c_size_t
_FUNCTIONS: dict[str, tuple[list[Any], Any]] = {
    "TfLiteModelCreate": ([ctypes.c_char_p, _SIZE], _POINTER),
    "TfLiteModelDelete": ([_POINTER], None),
    "TfLiteInterpreterOptionsCreate": ([], _POINTER),
    "TfLiteInterpreterOptionsSetNumThreads": ([_POINTER, _INT], None),
    "TfLiteInterpreterOptionsDelete": ([_POINTER], None),
    "TfLiteInterpreterCreate": ([_POINTER, _POINTER], _POINTER),
    "TfLiteInterpreterDelete": ([_POINTER], None),
    "TfLiteInterpreterAllocateTensors": ([_POINTER], ctypes.c_int),
    "TfLiteInterpreterGetInputTensorCount": ([_POINTER], _INT),
    "TfLiteInterpreterGetOutputTensorCount": ([_POINTER], _INT),
    "TfLiteInterpreterGetInputTensor": ([_POINTER, _INT], _POINTER),
    "TfLiteInterpreterGetOutputTensor": ([_POINTER, _INT], _POINTER),
    "TfLiteInterpreterInvoke": ([_POINTER], ctypes.c_int),
    "TfLiteTensorType": ([_POINTER], ctypes.c_int),
    "TfLiteTensorNumDims": ([_POINTER], _INT),
    "TfLiteTensorDim": ([_POINTER, _INT], _INT),
    "TfLiteTensorByteSize": ([_POINTER], _SIZE),
    "TfLiteTensorQuantizationParams": ([_POINTER], _Quantization),
    "TfLiteTensorCopyFromBuffer": ([_POINTER, ctypes.c_char_p, _SIZE], ctypes.c_int),
    "TfLiteTensorCopyToBuffer": ([_POINTER, ctypes.c_char_p, _SIZE], ctypes.c_int),
}


def load_library(package: Path) -> ctypes.CDLL:
    """Return the C library below the installed extra.

    Raises:
        EngineFailed: it is not there, or not for this machine.
    """
    try:
        library = ctypes.CDLL(str(package / "lib" / "libtensorflowlite_c.so"))
        for name, (arguments, result) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, result
    except (OSError, AttributeError) as error:
        raise EngineFailed(f"cannot be run: {error}. {INSTALL}") from error
    return library


def load_frontend() -> Callable[[bytes], list[Features]]:
    """Return a function from int16 mono 16 kHz sound to 40 features for every 10 ms of it.

    It remembers the noise of the room and what is left of a window; feed it in order.

    Raises:
        EngineFailed: the extra is missing, or not for this machine.
    """
    try:
        from pymicro_features import MicroFrontend

        frontend: Any = MicroFrontend()
    except (ImportError, OSError) as error:
        raise EngineFailed(f"cannot be run: {error}. {INSTALL}") from error
    step_bytes = 320  # 10 ms

    def features(pcm: bytes) -> list[Features]:
        found = []
        for at in range(0, len(pcm), step_bytes):
            output = frontend.process_samples(pcm[at : at + step_bytes])
            if output.features:
                found.append(cast(Features, output.features))
        return found

    return features


class WordEngine:
    """One network with its memory of the last second."""

    def __init__(self, library: ctypes.CDLL, model: WordModel) -> None:
        """Prepare the network.

        Raises:
            EngineFailed: it is damaged, or not of the kind that hears words.
        """
        self._library = library
        self._network = model.network  # the library reads from these very bytes
        self._model = library.TfLiteModelCreate(self._network, len(self._network))
        self._interpreter = None
        if not self._model:
            raise EngineFailed("is damaged: it cannot be parsed")
        options = library.TfLiteInterpreterOptionsCreate()
        library.TfLiteInterpreterOptionsSetNumThreads(options, 1)
        self._interpreter = library.TfLiteInterpreterCreate(self._model, options)
        library.TfLiteInterpreterOptionsDelete(options)
        if not self._interpreter:
            raise EngineFailed("uses operations that are not in the library")
        if library.TfLiteInterpreterAllocateTensors(self._interpreter) != OK:
            raise EngineFailed("is damaged: its tensors cannot be laid out")
        self._find_tensors()
        self._pending = array(self._code)

    def _find_tensors(self) -> None:
        library, interpreter = self._library, self._interpreter
        counts = (
            library.TfLiteInterpreterGetInputTensorCount(interpreter),
            library.TfLiteInterpreterGetOutputTensorCount(interpreter),
        )
        if counts != (1, 1):
            raise EngineFailed(f"has {counts[0]} inputs and {counts[1]} outputs instead of one")
        self._input = library.TfLiteInterpreterGetInputTensor(interpreter, 0)
        self._output = library.TfLiteInterpreterGetOutputTensor(interpreter, 0)
        dims = [
            library.TfLiteTensorDim(self._input, i)
            for i in range(library.TfLiteTensorNumDims(self._input))
        ]
        if len(dims) != 3 or dims[0] != 1 or not 1 <= dims[1] <= 100 or dims[2] != FEATURES:
            raise EngineFailed(f"takes {dims} instead of [1, steps, {FEATURES}] features")
        types = [library.TfLiteTensorType(tensor) for tensor in (self._input, self._output)]
        if not set(types) <= _TYPECODES.keys() or library.TfLiteTensorByteSize(self._output) != 1:
            raise EngineFailed("is not quantized to 8 bits with one score")
        self.steps = dims[1]  # of 10 ms between two scores
        self._code, self._output_code = (_TYPECODES[kind] for kind in types)
        taken = library.TfLiteTensorQuantizationParams(self._input)
        given = library.TfLiteTensorQuantizationParams(self._output)
        if not (taken.scale > 0 and given.scale > 0):
            raise EngineFailed("has no scale to its numbers")
        self._factor, self._offset = 1.0 / taken.scale, taken.zero_point
        self._scale, self._zero = given.scale, given.zero_point

    def take(self, features: Features) -> float | None:
        """Take the features of the next 10 ms; return a score (0..1) when one is due.

        Raises:
            EngineFailed: the network cannot be run.
        """
        low, high = _RANGES[self._code]
        factor, shift = self._factor, self._offset - low + 0.5  # above zero: int() rounds
        self._pending.extend(
            [min(high, max(low, int(value * factor + shift) + low)) for value in features]
        )
        if len(self._pending) < self.steps * FEATURES:
            return None
        library, quantized = self._library, self._pending.tobytes()
        del self._pending[:]
        scored = ctypes.create_string_buffer(1)
        if (
            library.TfLiteTensorCopyFromBuffer(self._input, quantized, len(quantized)) != OK
            or library.TfLiteInterpreterInvoke(self._interpreter) != OK
            or library.TfLiteTensorCopyToBuffer(self._output, scored, 1) != OK
        ):
            raise EngineFailed("cannot be run to its end")
        (value,) = array(self._output_code, scored.raw)
        return float((value - self._zero) * self._scale)

    def close(self) -> None:
        """Give back the library's memory."""
        if self._interpreter:
            self._library.TfLiteInterpreterDelete(self._interpreter)
        if self._model:
            self._library.TfLiteModelDelete(self._model)
        self._interpreter = self._model = None

    def __del__(self) -> None:
        if hasattr(self, "_model"):
            self.close()


def probe(description: Path) -> str:
    """Run a household's own model in a process of its own; return what is wrong, or nothing.

    A damaged network may take the process down that runs it.
    """
    command = [sys.executable, "-P", "-m", "agentd.vad.tflite", str(description)]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=PROBE_S, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return f"does not answer within {PROBE_S:.0f} s"
    except OSError as error:
        return f"cannot be tried ({error.strerror})"
    if done.returncode < 0:
        return "is damaged: it ends the process that runs it"
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return said[-1][:200] if said else f"cannot be tried (exit status {done.returncode})"
    return ""


def _main(path: Path) -> int:
    from agentd.vad.words import ModelRefused, package_folder, read_model

    package = package_folder()
    if package is None:
        print(f"cannot be run. {INSTALL}", file=sys.stderr)
        return 1
    try:
        engine = WordEngine(load_library(package), read_model(path))
        features = load_frontend()
        for _ in range(50):  # a second of it
            for values in features(bytes(640)):
                engine.take(values)
    except (EngineFailed, ModelRefused) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1])))
