"""Processes that end with the one that started them, whatever ended it."""

from __future__ import annotations

import os
import signal
import threading
import time

_watching: set[int] = set()  # ids of this process, so that a forked child begins anew


def end_with_parent(parent: int) -> None:
    """Called first in a worker process: it ends within a second of its parent's end, in the middle of its work.

    A killed parent (``kill -9``, no memory) can tell nobody, so the worker looks: a process that loses its parent gets
    another one. What a worker writes is written atomically and found again by the next run.

    Parameters
    ----------
    parent : int
        ``os.getpid()`` of the process that started this one.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    if os.getpid() not in _watching:
        _watching.add(os.getpid())
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a forked one has its parent's handler, which speaks for the command
        threading.Thread(target=watch, daemon=True, name="end with parent").start()
