"""The page of claims, from the result files ``claims-*.json`` of all runs, and the list of claims for other pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from book.builder import markdown, reference
from dsaml.evaluate.bootstrap import p_text
from dsaml.experiment import claims
from dsaml.experiment.results import stamp_line
from dsaml.plots.curves import evidence

UNITS = {"separation": "separation in seconds"}  # of differences that are not CCC
WHERE = {
    "figure4": "[the attention maps](../notebooks/02_attention_maps.ipynb)",
    "study": "[the study](../notebooks/05_subjective_study.ipynb): its statistics, on simulated answers",
}
SEE = "Look for claims whose intervals stay on one side of zero in both panels; a grey one is open."


def _where(claim: claims.Claim) -> str:
    """Where in the book a claim's numbers are."""
    return WHERE.get(claim.block) or f"[Table {claim.block.removeprefix('table')[0]}](tables.md)"


def listed() -> str:
    """Every claim with its evidence in the paper and its place in this book."""
    header = ("", "claim", "the paper's evidence", "here")
    rows = [[claim.id, claim.text, claim.evidence, _where(claim)] for claim in claims.CLAIMS]
    return markdown.table(header, rows, numbers=False)


def words() -> dict[str, str]:
    """For the prose: ``{{ claims.C1 }}`` is the claim's id and wording."""
    return {f"claims.{claim.id}": f"{claim.id} (*{claim.text}*)" for claim in claims.CLAIMS}


def _differences(claim: Mapping[str, Any]) -> list[tuple[dict[str, Any], str, dict[str, Any]]]:
    """Every difference of a judged claim: its cell, its dimension (or other name), and the comparison that it belongs to."""
    return [(cell, name, row) for row in claim["comparisons"] for name, cell in (row["cells"] or {}).items()]


def _deciding(claim: Mapping[str, Any]) -> str:
    """The difference that decides: of a claim that does not hold the one farthest below zero, else the one that reaches lowest."""
    differences = _differences(claim)
    if not differences:
        return claim["needs"] or "not run"
    end = "high" if claim["verdict"] == claims.FAILS else "low"
    cell, name, row = min(differences, key=lambda found: found[0][end])
    said = f"{UNITS.get(name, name)}, {row['better']} minus {row['worse']}"
    return f"{markdown.difference(cell)}<br>p (Holm) {p_text(cell)}<br>{said}"


def _verdict(claim: Mapping[str, Any]) -> str:
    decided = claim["verdict"] in (claims.HOLDS, claims.FAILS)
    return f"**{claim['verdict']}**" if decided else claim["verdict"]


OWN_SECTION = ("synthetic", "stress", "deam")  # data sets that have a section of their own on the page
OTHERS = "others"  # the section of all others


def text(dataset: str, runs: Sequence[Path], figures: Path) -> str:
    """The claims on one data set, or on the ``OTHERS``: of every run that judges them, the book's own first."""
    every = [(file, document, file.stem.removeprefix("claims-")) for file, document in reference.found(runs, "claims-*.json")]
    wanted = [one for one in every if one[2] == dataset or (dataset == OTHERS and one[2] not in OWN_SECTION)]
    if not wanted:
        if dataset == OTHERS:
            return "*None was run here.*"
        return f"*Not run: `python -m dsaml reproduce all --dataset {dataset}` writes claims-{dataset}.json.*"
    return "\n\n".join(_judged(*one, figures) for one in wanted)


def _judged(file: Path, document: Mapping[str, Any], dataset: str, figures: Path) -> str:
    """The claims of one run: verdicts, a picture of all differences, and their numbers."""
    judged = document["claims"]
    if [(c["id"], c["text"]) for c in judged] != [(c.id, c.text) for c in claims.CLAIMS]:
        again = f"`python -m dsaml reproduce all --dataset {dataset}` writes it anew"
        return f"*{file.parent.name}/{file.name} judges another list of claims: {again}.*"
    header = ("", "claim", "the paper's evidence", "here: the difference that decides", "verdict", "python -m dsaml …")
    wanted = [found for found in judged if dataset == OWN_SECTION[0] or found["verdict"] != "not run"]
    rows = [
        [c.id, c.text, c.evidence, _deciding(found), _verdict(found), f"`{c.command.split('dsaml ')[1]}`"]
        for c, found in zip(claims.CLAIMS, judged, strict=True)
        if found in wanted
    ]
    parts = [f"{reference.title(document, file.parent.name)}.", markdown.table(header, rows, numbers=False)]
    if left := [found["id"] for found in judged if found not in wanted]:
        parts.append(f"Not computed on this data set: {', '.join(left)}.")
    if of_ccc := [c for c in judged if any(name not in UNITS for _, name, _ in _differences(c))]:
        alt = "Paired CCC differences with 95 % intervals under each claim, arousal on the left, valence on the right."
        parts += [
            "Every CCC difference behind a verdict, with its 95 % interval (not corrected). Green is above zero and orange "
            "below with p < 0.05 after Holm's correction within the claim; grey is neither:",
            markdown.picture(evidence(of_ccc), figures / f"{file.stem}-{file.parent.name}.svg", alt, SEE),
        ]
    every = [
        [c["id"], row["better"], row["worse"], UNITS.get(name, name), markdown.difference(cell), p_text(cell)]
        for c in judged
        for cell, name, row in _differences(c)
    ]
    if every:
        numbers = markdown.table(("", "better", "minus", "", "difference", "p (Holm)"), every)
        parts.append(markdown.folded("The same in numbers", numbers))
    return "\n\n".join([*parts, f"<small>{stamp_line(document)}</small>"])
