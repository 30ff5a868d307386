"""The one list of claims, each with the comparisons that decide it, and the rule that turns numbers into a verdict.

Pages, tables and notebooks take ids and wording from :data:`CLAIMS`.

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
from dsaml.config import DIMENSIONS
from dsaml.evaluate.bootstrap import correct
from dsaml.evaluate.floors import AVERAGE_CURVE, AVERAGE_CURVE_SPREAD, OWN_CURVE
from dsaml.experiment import figure4, recipes
from dsaml.experiment.recipes import DMER_MODEL, MAML_ANNOTATOR, MAML_MEAN, NON_META, NON_META_LONG, baseline_name
from dsaml.experiment.rows import BEFORE, FINE_TUNED, label_of

HOLDS, FAILS, UNDECIDED, NOT_RUN = "holds", "does not hold", "not decided", "not run"
LEVEL = 0.05  # of all differences of a claim together


@dataclass(frozen=True)
class Claim:
    """A sentence that can be checked: the paper's, or one of ours."""

    id: str
    text: str
    paper: str  # the paper's evidence; of a claim of ours, what it is about
    block: str  # the table, under one protocol, that decides it
    pairs: tuple[tuple[str, str], ...]  # the first row should be better than the second one, in every dimension
    other_command: str = ""  # what computes it, where that is not its table
    needs: str = ""  # what it takes, where nothing here can decide it
    ours: bool = False  # the paper does not claim it

    @property
    def command(self) -> str:
        """What computes it."""
        return self.other_command or f"python -m dsaml reproduce {self.block.partition('-')[0]}"

    @property
    def evidence(self) -> str:
        """The paper's evidence, or the mark of a claim that is ours."""
        return f"*ours, not the paper's*: {self.paper}" if self.ours else self.paper


_BASELINES = tuple(baseline_name(name) for name in BASELINES)
_META = tuple(baseline_name(name, meta=True) for name in BASELINES)
_TUNED = (label_of(NON_META), label_of(NON_META_LONG))  # on both budgets
_ANNOTATOR_LABELS = (recipes.ANNOTATOR_LABELS, recipes.ANNOTATOR_LABELS_LONG)


def _against(better: str, others: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((better, other) for other in others)


CLAIMS = (
    Claim(
        "C1",
        "listeners of one song differ, so its averaged label loses what is one's own",
        "Figures 1 and 5; true by construction of simulated listeners, the question is how much",
        "table4",
        ((OWN_CURVE, AVERAGE_CURVE),),
    ),
    Claim(
        "C2",
        "DSAML predicts averaged curves better than CRNN, DNN, MCRNN and DAMFF",
        "Table 1",
        "table1",
        _against(DMER_MODEL, _BASELINES),
    ),
    Claim(
        "C3",
        "all four parts help where a song's emotion depends on what was heard 8 to 15 s before",
        "the text on Table 1: long-term dependencies",
        "table3-long-range",
        _against(DMER_MODEL, recipes.ABLATIONS),
    ),
    Claim(
        "C4",
        "with one annotated song DSAML predicts a new listener better than the four, with or without MAML",
        "Table 2",
        "table2",
        _against(MAML_ANNOTATOR, (*_BASELINES, *_META)),
    ),
    Claim(
        "C5",
        "MAML makes the four baselines worse",
        "Table 2 and its text",
        "table2",
        tuple(zip(_BASELINES, _META, strict=True)),
    ),
    *(
        Claim(id, f"{what} helps", evidence, "table3", _against(DMER_MODEL, (name,)))
        for id, what, evidence, name in (
            ("C6", "local attention", "Figure 2, Table 3", recipes.NO_LOCAL),
            ("C7", "global attention", "Figure 2, Table 3", recipes.NO_GLOBAL),
            ("C8", "the diagonal attention loss", "Eq. 3, Table 3", recipes.NO_ATTENTION_LOSS),
            ("C9", "the adapter", "Figure 3, Table 3", recipes.NO_ADAPTER),
        )
    ),
    Claim(
        "C10",
        "the diagonal loss keeps local and global attention to their scales: with it they look at distances farther apart",
        "Figure 4",
        figure4.BLOCK,
        (figure4.METHODS,),
        "python -m dsaml reproduce table3",
    ),
    Claim(
        "C11",
        "MAML needs annotator tasks: with averaged labels (Eq. 5) it is worse",
        "Table 4",
        "table4",
        _against(MAML_ANNOTATOR, (MAML_MEAN,)),
    ),
    Claim(
        "C12",
        "annotators' labels need MAML: without it they are worse, fine-tuned or not",
        "Table 4",
        "table4",
        _against(MAML_ANNOTATOR, tuple(row for name in _ANNOTATOR_LABELS for row in (name, label_of(name)))),
    ),
    Claim(
        "C13",
        "without MAML, annotators' labels are worse than averaged ones",
        "Table 4 and its text",
        "table4",
        tuple(zip((NON_META, NON_META_LONG), _ANNOTATOR_LABELS, strict=True)),
    ),
    Claim(
        "C14",
        "one annotated song is enough: better than the same model before it, and than fine-tuning without MAML",
        "the abstract, and the text on Table 2",
        "table4",
        _against(MAML_ANNOTATOR, (BEFORE, *_TUNED)),
    ),
    Claim(
        "C15",
        "people rank the personalized curve above DAMFF and the unpersonalized model, in arousal even above the averaged label",
        "Figure 6: 22 participants, 10 songs, 4 curves",
        "study",
        (),
        "python -m dsaml study analyse ANSWERS.csv",
        "answers of people; the book has simulated ones only",
    ),
    Claim(
        "C16",
        "with one annotated song DSAML beats what knows the music perfectly and the listener not at all",
        "the average listener's true curve, at its best spread, is known for simulated listeners only",
        "table4",
        _against(MAML_ANNOTATOR, (AVERAGE_CURVE_SPREAD,)),
        ours=True,
    ),
    Claim(
        "C17",
        "annotator tasks pay under the released code's protocol too: the song's own first 30 s as support",
        "Table 4 as the released code computes it, with fine-tuned rows",
        "table4-prefix",
        _against(MAML_ANNOTATOR, (MAML_MEAN, *_TUNED)),
        ours=True,
    ),
)


def verdict(cells: list[Mapping[str, Any] | None]) -> str:
    """The rule (see the module's first lines) on all differences of one claim; ``None`` is a comparison that has not been run."""
    if not cells or any(cell is None for cell in cells):
        return NOT_RUN
    if any(cell["p_holm"] < LEVEL and cell["mean"] < 0 for cell in cells):
        return FAILS
    return HOLDS if all(cell["p_holm"] < LEVEL and cell["mean"] > 0 for cell in cells) else UNDECIDED


def judge(claim: Claim, blocks: Mapping[str, Any]) -> dict[str, Any]:
    """One claim with its differences and its verdict; ``p_holm`` is corrected over the differences that were run."""
    paired = blocks.get(claim.block, {}).get("differences", {})
    rows: list[dict[str, Any]] = []
    for better, worse in claim.pairs:
        found = paired.get(f"{better} | {worse}")
        cells = None if found is None else {name: dict(cell) for name, cell in found.items()}
        rows.append({"block": claim.block, "better": better, "worse": worse, "cells": cells})
    run = [cell for row in rows if row["cells"] for cell in row["cells"].values()]
    correct(run)
    missing = [None for row in rows if not row["cells"]]
    about = {name: getattr(claim, name) for name in ("id", "text", "paper", "command", "needs")}
    return about | {"comparisons": rows, "verdict": verdict([*run, *missing])}


def judge_all(blocks: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every claim; ``blocks`` is what :func:`dsaml.experiment.tables.payload_of` gives."""
    return [judge(claim, blocks) for claim in CLAIMS]


def wanted(block: str) -> list[tuple[str, str]]:
    """Pairs of rows that the claims compare in a block."""
    return list(dict.fromkeys(pair for claim in CLAIMS if claim.block == block for pair in claim.pairs))


def headline(payload: Mapping[str, Any]) -> str:
    """One sentence on whether annotator tasks beat fine-tuning and mean-label MAML, in both dimensions; the claims' rule.

    ``payload`` is the content of ``pdmer.json``; its stamp says whether the listeners are simulated.
    """
    who = "listeners" if payload.get("provenance", {}).get("real") else "simulated listeners"
    against = payload["paired"]["against"]
    cells = {(other, d): dict(against[other][d]) for other in (FINE_TUNED, MAML_MEAN) for d in DIMENSIONS}
    correct(cells.values())
    short = [
        f"{other} in {d} ({cell['mean']:+.3f} [{cell['low']:+.3f}, {cell['high']:+.3f}])"
        for (other, d), cell in cells.items()
        if not (cell["p_holm"] < LEVEL and cell["mean"] > 0)
    ]
    if short:
        return f"The result does not hold everywhere: no clear advantage of MAML with annotator tasks over {'; '.join(short)}."
    return (
        f"On unseen {who}, MAML with annotator tasks beats both the fine-tuned non-meta model and MAML on "
        f"mean labels, in arousal and in valence: all four paired CCC differences lie above zero, p < {LEVEL} after Holm's "
        "correction."
    )
