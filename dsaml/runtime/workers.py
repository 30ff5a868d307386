"""How many processes work side by side, and how they end: with the one that started them, or after the step that they are in."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

MEMORY_EACH = 2e9  # bytes that a process may need which trains or scores at the demo's size

_watching: set[int] = set()  # ids of this process, so that a forked child begins anew


def side_by_side(device: str = "cpu") -> int:
    """Processes of one thread that train and score at once: one for each core and each 2 GB of memory; one alone on a GPU."""
    if device != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 4e9
    return max(1, min(cores, int(memory / MEMORY_EACH)))


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


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C or SIGTERM inside the block only sets a flag, so that a step is never cut in half; a second one cuts."""
    pressed: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def handler(number: int, frame: Any) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(pressed)
    finally:
        for number, usual in before.items():
            signal.signal(number, usual)
