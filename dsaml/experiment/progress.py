"""Progress bars as the callbacks that the package's functions take; where nobody looks, a line of the log now and then."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from dsaml.learn.loop import History

log = logging.getLogger(__name__)
EVERY = 60.0  # s between two lines of the log


def watched() -> bool:
    """Whether somebody looks: at a terminal, or at a notebook, whose shell has a kernel."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return sys.stderr.isatty() or hasattr(shell, "kernel")


@contextmanager
def counter(what: str, unit: str = "song", stays: bool = False) -> Iterator[Callable[..., None]]:
    """A bar for long work on many things: call it with (done, in all), and more to be shown by name.

    One that ``stays`` at the end appears with the first call: for work that may turn out to be done already.
    """
    said, still = time.monotonic(), not watched()
    with tqdm(desc=what, unit=unit, mininterval=1.0, leave=stays, delay=1e-3 * stays, disable=still) as bar:

        def progress(done: int, total: int, **more: Any) -> None:
            nonlocal said
            if still:
                if time.monotonic() - said >= EVERY:
                    said = time.monotonic()
                    log.info("%s", ", ".join([f"{what}: {done} of {total} {unit}s", *(f"{k} {v}" for k, v in more.items())]))
                return
            bar.total = total
            bar.set_postfix(more, refresh=False)
            if bar.delay:  # the first step: what was done before it is no speed
                bar.delay, bar.initial, bar.n, bar.last_print_n = 0, done, done, done
                bar.refresh()
            bar.update(done - bar.n)

        yield progress


@contextmanager
def training_bar(what: str, per_step: int, unit: str) -> Iterator[Callable[[int, int, History], None]]:
    """A bar over the steps of a run: tasks (or songs) per second, time left, loss, best validation CCC."""
    with counter(what, unit, stays=True) as progress:

        def progress_of(step: int, total: int, history: History) -> None:
            scores = {"loss": f"{history.loss[-1]:.3f}"}
            if history.validation:
                last, best = history.validation[-1][1], max(s for _, s in history.validation)
                scores |= {"CCC": f"{last:.3f}", "best": f"{best:.3f}"}
            progress(step * per_step, total * per_step, **scores)

        yield progress_of
