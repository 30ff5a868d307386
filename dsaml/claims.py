"""The paper's claims, each with the comparisons that decide it, and the rule that turns numbers into a verdict.

The rule, for all claims alike: a claim **holds** if in every one of its comparisons the paired 95 % interval of the CCC difference
lies above zero; it **does not hold** if one of the intervals lies below zero; it is **not decided** if neither is the case; it
is **not run** while a comparison is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dsaml.baselines import BASELINES
from dsaml.recipes import (
    ABLATIONS,
    ANNOTATOR_LABELS,
    MAML_ANNOTATOR,
    MAML_MEAN,
    NO_ADAPTER,
    NO_ATTENTION_LOSS,
    NO_GLOBAL,
    NO_LOCAL,
    NON_META,
    SUPERVISED,
    baseline_name,
)

HOLDS, FAILS, UNDECIDED, NOT_RUN = "holds", "does not hold", "not decided", "not run"
DIMENSIONS = ("arousal", "valence")


@dataclass(frozen=True)
class Comparison:
    """The first row should be better than the second one, in both dimensions."""

    block: str
    better: str
    worse: str


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper that can be checked."""

    id: str
    text: str
    paper: str  # the paper's evidence
    comparisons: tuple[Comparison, ...]
    command: str
    needs: str = ""  # what it takes, where nothing here can decide it


def _against(block: str, better: str, others: tuple[str, ...]) -> tuple[Comparison, ...]:
    return tuple(Comparison(block, better, other) for other in others)


_BASELINES = tuple(baseline_name(name) for name in BASELINES)
_META = tuple(baseline_name(name, meta=True) for name in BASELINES)
_TUNED = "non-meta model, fine-tuned"

CLAIMS = (
    Claim(
        "C1",
        "DSAML predicts averaged curves better than CRNN, DNN, MCRNN and DAMFF",
        "Table 1",
        _against("table1", SUPERVISED, _BASELINES),
        "python -m dsaml reproduce table1",
    ),
    Claim(
        "C2",
        "with one annotated song DSAML predicts a new listener better than the four, with or without MAML",
        "Table 2",
        _against("table2", MAML_ANNOTATOR, (*_BASELINES, *_META)),
        "python -m dsaml reproduce table2",
    ),
    *(
        Claim(
            f"C3{letter}",
            f"{what} helps",
            "Table 3",
            _against("table3", SUPERVISED, (name,)),
            "python -m dsaml reproduce table3",
        )
        for letter, what, name in zip(
            "abcd",
            ("local attention", "global attention", "the diagonal attention loss", "the adapter"),
            (NO_LOCAL, NO_GLOBAL, NO_ATTENTION_LOSS, NO_ADAPTER),
            strict=True,
        )
    ),
    Claim(
        "C3e",
        "all four parts help where a song's emotion depends on what was heard 8 to 15 s before",
        "the text on Table 1: long-term dependencies",
        _against("table3-long-range", SUPERVISED, tuple(ABLATIONS)),
        "python -m dsaml reproduce table3",
    ),
    Claim(
        "C4a",
        "MAML needs annotator tasks: with averaged labels (Eq. 5) it is worse",
        "Table 4",
        _against("table4", MAML_ANNOTATOR, (MAML_MEAN,)),
        "python -m dsaml reproduce table4",
    ),
    Claim(
        "C4b",
        "annotators' labels need MAML: without it they are worse",
        "Table 4",
        _against("table4", MAML_ANNOTATOR, (ANNOTATOR_LABELS, f"{ANNOTATOR_LABELS}, fine-tuned")),
        "python -m dsaml reproduce table4",
    ),
    Claim(
        "C4c",
        "without MAML, annotators' labels are worse than averaged ones",
        "Table 4",
        (Comparison("table4", NON_META, ANNOTATOR_LABELS),),
        "python -m dsaml reproduce table4",
    ),
    Claim(
        "C5a",
        "one annotated song is enough: better than the same model before it, and than fine-tuning without MAML",
        "the text on Table 2",
        _against("table4", MAML_ANNOTATOR, (f"{MAML_ANNOTATOR}, before", _TUNED)),
        "python -m dsaml reproduce table4",
    ),
    Claim(
        "C5b",
        "... and better than any predictor that knows the music perfectly and the listener not at all",
        "not in the paper; the population oracle is known for simulated listeners only",
        _against("table4", MAML_ANNOTATOR, ("population oracle",)),
        "python -m dsaml reproduce table4",
    ),
    Claim(
        "C5c",
        "... also under the released code's protocol: the song's own first 30 s as support",
        "Table 2 as the released code computes it",
        _against("table4-prefix", MAML_ANNOTATOR, (MAML_MEAN, _TUNED)),
        "python -m dsaml reproduce table4",
    ),
    Claim(
        "C6",
        "MAML makes the four baselines worse",
        "Table 2",
        tuple(Comparison("table2", plain, meta) for plain, meta in zip(_BASELINES, _META, strict=True)),
        "python -m dsaml reproduce table2",
    ),
    Claim(
        "C7",
        "people prefer the personalized curve",
        "Figure 6, 22 participants",
        (),
        "python -m dsaml study analyse ANSWERS.csv",
        "answers of people; the book has simulated ones only",
    ),
)


def verdict(cells: list[Mapping[str, float] | None]) -> str:
    """The rule: see the module's first lines. ``None`` is a comparison that has not been run."""
    if not cells or any(cell is None for cell in cells):
        return NOT_RUN
    if any(cell["high"] < 0 for cell in cells):
        return FAILS
    return HOLDS if all(cell["low"] > 0 for cell in cells) else UNDECIDED


def difference(blocks: Mapping[str, Any], comparison: Comparison, dimension: str) -> dict[str, float] | None:
    """Paired CCC difference of two rows with its interval; None where one of them was not run."""
    paired = blocks.get(comparison.block, {}).get("differences", {})
    key = f"{comparison.better} | {comparison.worse}"
    return paired[key][dimension] if key in paired else None


def judge(claim: Claim, blocks: Mapping[str, Any]) -> dict[str, Any]:
    """One claim with its differences and its verdict."""
    rows = []
    for comparison in claim.comparisons:
        cells = {d: difference(blocks, comparison, d) for d in DIMENSIONS}
        rows.append({"block": comparison.block, "better": comparison.better, "worse": comparison.worse, **cells})
    cells = [row[d] for row in rows for d in DIMENSIONS]
    return {
        "id": claim.id,
        "text": claim.text,
        "paper": claim.paper,
        "command": claim.command,
        "needs": claim.needs,
        "comparisons": rows,
        "verdict": verdict(cells),
    }


def judge_all(blocks: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every claim; ``blocks`` is what :func:`dsaml.tables.payload_of` gives."""
    return [judge(claim, blocks) for claim in CLAIMS]


def wanted(block: str) -> list[tuple[str, str]]:
    """Pairs of rows that the claims compare in a block."""
    pairs = [(c.better, c.worse) for claim in CLAIMS for c in claim.comparisons if c.block == block]
    return list(dict.fromkeys(pairs))
