"""In the daemon that is attacked: note how long its event loop stands still (PYTHONPATH).

Every turn of the main thread's loop that takes more than 5 ms of its processor time is a line in
the file that STOPS names, in milliseconds. Processor time: the machine may be busy otherwise.
"""

import os
import selectors
import threading
import time

_select = selectors.EpollSelector.select
_main = threading.get_ident()
_left: list[float] = []


def _noting(self: selectors.EpollSelector, timeout: float | None = None) -> object:
    if threading.get_ident() != _main:
        return _select(self, timeout)
    now = time.thread_time()
    if _left and now - _left[0] > 0.005:
        os.write(_file, b"%d\n" % ((now - _left[0]) * 1000))
    found = _select(self, timeout)
    _left[:] = [time.thread_time()]
    return found


if "STOPS" in os.environ:
    _file = os.open(os.environ["STOPS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    selectors.EpollSelector.select = _noting  # type: ignore[assignment]
