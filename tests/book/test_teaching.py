"""The exercises of the teaching page: each has a solution, and every solution runs and holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "book/teaching.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^```\{solution\} (\S+)\n(.*?)^```$", PAGE, re.S | re.M))
EXERCISES = re.findall(r"^```\{exercise\} .*\n:label: (\S+)$", PAGE, re.M)


def test_every_exercise_has_its_solution() -> None:
    assert len(EXERCISES) >= 8 and sorted(EXERCISES) == sorted(BLOCKS)
    titles = re.findall(r"^```\{exercise\} (.*)$", PAGE, re.M)
    assert all(re.search(r" · (easy|medium|harder)$", title) for title in titles)


@pytest.mark.parametrize("label", BLOCKS)
def test_solutions_hold(label: str) -> None:
    code = re.findall(r"^~~~python\n(.*?)^~~~$", BLOCKS[label], re.S | re.M)
    assert code and all("assert " in block for block in code)
    for block in code:
        exec(compile(block, label, "exec"), {"__name__": label})
