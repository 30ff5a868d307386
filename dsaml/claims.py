"""The paper's claims, each with the comparisons that decide it, and the rule that turns numbers into a verdict.

The rule, for all claims alike, and the same on both sides: the p-values of all paired differences of one claim (each comparison,
each dimension) are corrected together after Holm. A claim **holds** if every corrected p-value is below 0.05 and every difference
above zero; it **does not hold** if at least one difference below zero has a corrected p-value below 0.05; it is **not decided** if
neither is the case; it is **not run** while a comparison is missing. So where nothing differs, each of the two verdicts is given in
at most one case of twenty, however many comparisons the claim has. The 95 % intervals beside the verdicts are not corrected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dsaml.baselines import BASELINES
from dsaml.bootstrap import holm
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
LEVEL = 0.05  # of all differences of a claim together


@dataclass(frozen=True)
class Comparison:
    """The first row should be better than the second one, in every dimension."""

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


def verdict(cells: list[Mapping[str, Any] | None]) -> str:
    """The rule: see the module's first lines.

    Parameters
    ----------
    cells : list of mapping or None
        All differences of one claim, with ``mean`` and ``p_holm``; ``None`` is a comparison that has not been run.
    """
    if not cells or any(cell is None for cell in cells):
        return NOT_RUN
    if any(cell["p_holm"] < LEVEL and cell["mean"] < 0 for cell in cells):
        return FAILS
    return HOLDS if all(cell["p_holm"] < LEVEL and cell["mean"] > 0 for cell in cells) else UNDECIDED


def difference(blocks: Mapping[str, Any], comparison: Comparison) -> dict[str, Any] | None:
    """Paired differences of two rows by name (arousal, valence), each with interval and p; None where one was not run."""
    paired = blocks.get(comparison.block, {}).get("differences", {})
    found = paired.get(f"{comparison.better} | {comparison.worse}")
    return None if found is None else {name: dict(cell) for name, cell in found.items()}


def judge(claim: Claim, blocks: Mapping[str, Any]) -> dict[str, Any]:
    """One claim with its differences and its verdict; ``p_holm`` is corrected over the differences that were run."""
    rows: list[dict[str, Any]] = []
    for comparison in claim.comparisons:
        about = {"block": comparison.block, "better": comparison.better, "worse": comparison.worse}
        rows.append(about | {"cells": difference(blocks, comparison)})
    run = [cell for row in rows if row["cells"] for cell in row["cells"].values()]
    for cell, corrected in zip(run, holm([cell["p"] for cell in run]), strict=True):
        cell["p_holm"] = corrected
    missing = [None for row in rows if not row["cells"]]
    return {
        "id": claim.id,
        "text": claim.text,
        "paper": claim.paper,
        "command": claim.command,
        "needs": claim.needs,
        "comparisons": rows,
        "verdict": verdict([*run, *missing]),
    }


def judge_all(blocks: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every claim; ``blocks`` is what :func:`dsaml.tables.payload_of` gives."""
    return [judge(claim, blocks) for claim in CLAIMS]


def wanted(block: str) -> list[tuple[str, str]]:
    """Pairs of rows that the claims compare in a block."""
    pairs = [(c.better, c.worse) for claim in CLAIMS for c in claim.comparisons if c.block == block]
    return list(dict.fromkeys(pairs))
