"""What a participant is asked, step by step, and what counts as an answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dsaml.config import DIMENSIONS
from dsaml.listen.curves import SHORTEST
from dsaml.study.design import CLASS, Design

CONSENT, DRAW, RANK, CLOSE = "consent", "draw", "rank", "close"
FORM = {
    "age": ("Age", ("under 18", "18-25", "26-35", "36-50", "51 and over")),
    "gender": ("Gender", ("female", "male", "another")),
    "training": ("Years of musical training", ("none", "1-3", "4-9", "10 and more")),
}
"""Questions of the first page beside consent, all voluntary, with the answers that can be chosen."""
LONGEST = 1000  # characters of a comment
MARKUP = re.compile(r"[<>\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Also what turns writing around, and halves of characters."""


def steps_of(design: Design) -> list[str]:
    """The kinds of a participant's steps, in their order."""
    if design.kind == CLASS:
        return [CONSENT, DRAW]
    return [CONSENT, DRAW, *[RANK] * (len(design.songs) - 1), CLOSE]


def parse(body: bytes) -> Any:
    """JSON without NaN and without repeated names; a ValueError says what is wrong."""

    def once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a name comes twice")
        return dict(pairs)

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no number")

    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=once, parse_constant=refuse)
    except RecursionError as error:
        raise ValueError("too deep") from error


def checked(kind: str, answer: Any, design: Design) -> dict[str, Any]:
    """An answer to a step of this kind as it is kept; a ValueError says in one sentence why it is none."""
    if not isinstance(answer, dict):
        raise ValueError("an answer is an object")
    names, check = CHECKS[kind]
    if unknown := set(answer) - set(names):
        raise ValueError(f"there is no question {min(unknown)[:40]!r}")
    return check(answer, design)


def _consent(answer: Mapping[str, Any], design: Design) -> dict[str, Any]:
    if answer.get("consent") is not True:
        raise ValueError("without consent nothing is kept; tick the box to take part")
    given = {name: answer[name] for name in FORM if answer.get(name) is not None}
    for name, said in given.items():
        label, choices = FORM[name]
        if said not in choices:
            raise ValueError(f"{label}: choose one of the answers, or none")
    return {"consent": True, **given}


def _draw(answer: Mapping[str, Any], design: Design) -> dict[str, Any]:
    curve = answer.get("curve")
    if not isinstance(curve, list) or len(curve) != design.steps:
        raise ValueError(f"a curve has {design.steps} steps")
    kept: list[list[float | None]] = []
    for value in curve:
        if not isinstance(value, list) or len(value) != 2 or not all(map(_on_scale, value)):
            raise ValueError("a step of a curve is arousal and valence, each in [-1, 1] or null")
        kept.append([None if v is None else round(float(v), 4) for v in value])
    for d, name in enumerate(DIMENSIONS):
        if sum(value[d] is not None for value in kept) < SHORTEST:
            raise ValueError(f"draw at least {SHORTEST * design.step:g} s of {name}")
    return {"curve": kept}


def _on_scale(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and abs(value) <= 1)


def _rank(answer: Mapping[str, Any], design: Design) -> dict[str, Any]:
    every = list(range(1, len(design.methods) + 1))
    for name in DIMENSIONS:
        ranks = answer.get(name)
        if not isinstance(ranks, list) or any(type(rank) is not int for rank in ranks) or sorted(ranks) != every:
            raise ValueError(f"{name}: give each curve one of the ranks 1 to {len(every)}, each rank once")
    return {name: answer[name] for name in DIMENSIONS}


def _close(answer: Mapping[str, Any], design: Design) -> dict[str, Any]:
    comment = answer.get("comment", "")
    if not isinstance(comment, str) or len(comment) > LONGEST:
        raise ValueError(f"a comment is text of at most {LONGEST} characters")
    if MARKUP.search(comment):
        raise ValueError("a comment is plain text, without < and > and control characters")
    return {"comment": comment.strip()}


CHECKS: dict[str, tuple[Sequence[str], Callable[[Mapping[str, Any], Design], dict[str, Any]]]] = {
    CONSENT: (("consent", *FORM), _consent),
    DRAW: (("curve",), _draw),
    RANK: (DIMENSIONS, _rank),
    CLOSE: (("comment",), _close),
}
"""Of each kind of step: what is asked, and what keeps an answer."""
