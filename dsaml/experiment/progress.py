"""Progress bars as the callbacks that the package's functions take. Nothing is drawn where nobody looks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from dsaml.learn.loop import History


def watched() -> bool:
    """Whether somebody looks: at a terminal, or at a notebook, whose shell has a kernel."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return sys.stderr.isatty() or hasattr(shell, "kernel")


@contextmanager
def counter(what: str, unit: str = "song") -> Iterator[Callable[[int, int], None]]:
    """A bar for long work on many things: call it with (done, in all)."""
    with tqdm(desc=what, unit=unit, mininterval=1.0, leave=False, disable=not watched()) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress


@contextmanager
def training_bar(what: str, per_step: int, unit: str) -> Iterator[Callable[[int, int, History], None]]:
    """A bar over the steps of a run: tasks (or songs) per second, time left, loss, best validation CCC.

    It appears with the first step, so that a finished run, which is only read, draws none.
    """
    bar: list[tqdm] = []

    def progress(step: int, total: int, history: History) -> None:
        if not bar:
            start = (step - 1) * per_step
            bar.append(
                tqdm(
                    desc=what, total=total * per_step, initial=start, unit=unit, mininterval=1.0, disable=not watched()
                )
            )
        scores = {"loss": f"{history.loss[-1]:.3f}"}
        if history.validation:
            scores |= {
                "CCC": f"{history.validation[-1][1]:.3f}",
                "best": f"{max(s for _, s in history.validation):.3f}",
            }
        bar[0].set_postfix(scores, refresh=False)
        bar[0].update(step * per_step - bar[0].n)

    try:
        yield progress
    finally:
        for one in bar:
            one.close()
