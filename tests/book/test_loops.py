"""The diagram of the two loops: its numbers are those of the package, and of the formulas by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from book.builder import loops

BOOK = Path(__file__).parents[2] / "book"


@pytest.fixture(scope="module")
def moves() -> list[dict]:
    return loops.moves()


def energy(phase: float, k: int) -> float:
    """Half the mean square of listener k's song: each of the two weights has half of the mean squared error."""
    return float(loops.song(phase + k).square().mean()) / 2


def test_inner_steps_are_those_of_the_formula(moves: list[dict]) -> None:
    for move in moves:
        for k, name in enumerate(move["listeners"]):
            if name in move.get("adapted", {}):
                theta, own = np.array(move["theta"]), np.array(loops.LISTENERS[name])
                by_hand = theta - loops.CONFIG.inner_lr * 2 * energy(0.3 * move["turn"], k) * (theta - own)
                assert np.allclose(move["adapted"][name], by_hand, atol=1e-5)


def test_the_outer_step_is_the_gradient_through_the_inner_one(moves: list[dict]) -> None:
    turns = [move for move in moves if "outer" in move]
    for move, later in zip(turns, [*turns[1:], moves[-1]], strict=True):
        gradient = np.zeros(2)
        for k, name in enumerate(move["listeners"]):
            support, query = energy(0.3 * move["turn"], k), energy(1.5 + 0.3 * move["turn"], k)
            error = np.array(move["adapted"][name]) - np.array(loops.LISTENERS[name])
            assert move["losses"][name] == pytest.approx(query * np.square(error).sum(), rel=1e-4)
            gradient += 2 * query * error * (1 - loops.CONFIG.inner_lr * 2 * support) / len(move["listeners"])
        assert np.allclose(move["outer"], -loops.OUTER_LR * gradient, atol=1e-5)
        assert np.allclose(later["theta"], np.add(move["theta"], move["outer"]), atol=1e-5)


def test_one_inner_step_from_the_end_serves_everybody_better_than_from_the_start(moves: list[dict]) -> None:
    start, end = (np.array(moves[k]["theta"]) for k in (0, -1))
    people = np.array(list(loops.LISTENERS.values()))
    assert np.square(people - end).sum(1).mean() < 0.7 * np.square(people - start).sum(1).mean()


def test_every_line_of_the_algorithm_is_on_the_page(moves: list[dict], tmp_path: Path) -> None:
    page = (BOOK / "loops.md").read_text(encoding="utf-8")
    lines = {int(line) for line in re.findall(r'data-line="(\d)"', page)}
    assert {move["line"] for move in moves} <= lines
    loops.write(tmp_path)
    data = json.loads((tmp_path / "data.js").read_text(encoding="utf-8").removeprefix("window.dsamlLoops = ").rstrip(";\n"))
    assert data["moves"] == json.loads(json.dumps(moves)) and len(data["listeners"]) == 4
