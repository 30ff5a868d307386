"""How many processes work side by side."""

from __future__ import annotations

import os

import pytest

from dsaml.runtime.workers import side_by_side


@pytest.mark.parametrize(("cores", "gigabytes", "processes"), [(1, 64, 1), (2, 24, 2), (8, 16, 8), (16, 8, 4), (4, 1, 1)])
def test_one_process_for_each_core_that_memory_is_enough_for(cores, gigabytes, processes, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": int(gigabytes * 1e9 // 4096) + 1}[name])
    assert side_by_side() == processes
    assert side_by_side("cuda") == 1
