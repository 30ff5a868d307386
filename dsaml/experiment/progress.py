"""Progress bars as the callbacks that the package's functions take; where nobody looks, a line of the log now and then."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from dsaml.learn.loop import History

log = logging.getLogger(__name__)
EVERY = 60.0  # s between two lines of the log


class _Lines:
    """Says where long work stands, where no bar is drawn; work that is soon done says nothing."""

    def __init__(self, what: str, unit: str):
        self.what, self.unit, self.last = what, unit, time.monotonic()

    def __call__(self, done: int, total: int, more: str = "") -> None:
        if time.monotonic() - self.last >= EVERY and not watched():
            self.last = time.monotonic()
            log.info("%s: %d of %d %ss%s", self.what, done, total, self.unit, more)


def watched() -> bool:
    """Whether somebody looks: at a terminal, or at a notebook, whose shell has a kernel."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return sys.stderr.isatty() or hasattr(shell, "kernel")


@contextmanager
def counter(what: str, unit: str = "song") -> Iterator[Callable[[int, int], None]]:
    """A bar for long work on many things: call it with (done, in all)."""
    lines = _Lines(what, unit)
    with tqdm(desc=what, unit=unit, mininterval=1.0, leave=False, disable=not watched()) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)
            lines(done, total)

        yield progress


@contextmanager
def training_bar(what: str, per_step: int, unit: str) -> Iterator[Callable[[int, int, History], None]]:
    """A bar over the steps of a run: tasks (or songs) per second, time left, loss, best validation CCC.

    It appears with the first step, so that a finished run, which is only read, draws none.
    """
    bar: list[tqdm] = []
    lines = _Lines(what, "step")

    def progress(step: int, total: int, history: History) -> None:
        if not bar:
            start = (step - 1) * per_step
            size = {"total": total * per_step, "initial": start, "unit": unit}
            bar.append(tqdm(desc=what, mininterval=1.0, disable=not watched(), **size))
        scores = {"loss": f"{history.loss[-1]:.3f}"}
        if history.validation:
            last, best = history.validation[-1][1], max(s for _, s in history.validation)
            scores |= {"CCC": f"{last:.3f}", "best": f"{best:.3f}"}
        bar[0].set_postfix(scores, refresh=False)
        bar[0].update(step * per_step - bar[0].n)
        lines(step, total, "".join(f", {name} {value}" for name, value in scores.items()))

    try:
        yield progress
    finally:
        for one in bar:
            one.close()
