"""Clocks, memory, and the stamp of a measurement."""

from __future__ import annotations

import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any
from unittest.mock import patch

import torch

from dsaml.experiment.results import PACKAGES, installed_version
from dsaml.runtime.workers import end_with_parent

Progress = Callable[[str], None]  # is told what is measured next


def take_turns(sides: Mapping[str, Callable[[], object]], rounds: int = 5) -> dict[str, float]:
    """Median seconds of each side; they take turns, so that a busy moment meets all of them. One round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, work in sides.items():
            start = time.perf_counter()
            work()
            if number:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(every) for name, every in times.items()}


def seconds(work: Callable[[], object], rounds: int = 5) -> float:
    """Median seconds of one piece of work."""
    return take_turns({"": work}, rounds)[""]


def _peak(work: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, float]:
    return work(*arguments), _max_rss()


def _max_rss() -> float:
    """Largest resident size of this process so far, in GB."""
    try:  # on Linux the other call also knows the parent's size
        with open("/proc/self/status", encoding="utf-8") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e9
    except (OSError, StopIteration):
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def peak_memory(
    work: Callable[..., Any], *arguments: Any, environment: Mapping[str, str] | None = None
) -> tuple[Any, float]:
    """Run ``work`` in a process of its own, with an ``environment`` added; its result, and the largest resident size of it in GB.

    ``work`` stands at the top level of a module; what it raises is raised here.
    """
    with ProcessPoolExecutor(1, get_context("spawn"), end_with_parent, (os.getpid(),)) as alone:
        with patch.dict(os.environ, environment or {}):  # a process has the environment in which it was started
            done = alone.submit(_peak, work, arguments)
        return done.result()


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "packages": {name: installed_version(name) for name in PACKAGES},
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    except OSError:
        return platform.processor() or "unknown"
