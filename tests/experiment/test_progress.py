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


def test_where_nobody_looks_the_log_says_where_long_work_stands(monkeypatch, caplog):
    monkeypatch.setattr(progress, "watched", lambda: False)
    clock = iter([0.0, 1.0, 70.0, 70.0, 75.0, 140.0, 140.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with caplog.at_level("INFO"), progress.counter("features") as tell:
        for done in range(1, 5):
            tell(done, 9)
    assert [record.getMessage() for record in caplog.records] == ["features: 2 of 9 songs", "features: 4 of 9 songs"]
