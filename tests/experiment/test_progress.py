"""Progress bars: drawn for whoever looks, and for nobody else."""

import sys
from types import SimpleNamespace

import pytest

from dsaml.experiment import progress
from dsaml.learn.loop import History


@pytest.mark.parametrize("in_notebook", [True, False])
def test_a_bar_moves_in_a_notebook_and_is_silent_in_a_pipe(in_notebook, monkeypatch, capsys):
    shell = SimpleNamespace(kernel=None) if in_notebook else None
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    with progress.training_bar("a model", 16, "song") as step:
        for number in (1, 2):
            step(number, 2, History(loss=[0.5] * number))
    with progress.counter("songs") as count:
        count(3, 3)
    said = capsys.readouterr().err
    assert ("a model: 100%" in said and "32/32" in said and "songs" in said) if in_notebook else said == ""
