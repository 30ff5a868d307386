"""The models for real people on the chapter "What can one sample tell?": tables from ``dsaml/reference/listeners-*.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from book.builder import markdown
from dsaml.config import DIMENSIONS
from dsaml.experiment.results import read_result, stamp_line

SPLITS = ("vgmidi", "vgmidi-2")
"""The data set under two splits by blocks of pieces."""
ASKED = {
    "averaged": "the averaged label of pieces that nobody in training rated",
    "cross-song": "a person's curve of one piece, another of theirs being known",
    "prefix": "the second half of a person's curve, its first half being known",
    "arena": "as cross-song, by the arena's methods on log-mel statistics, of pieces that fill a clip; three training seeds",
}


def number(value: float, digits: int = 3) -> str:
    """With a proper minus."""
    return f"{value:.{digits}f}".replace("-", "−")


def _interval(cell: Mapping[str, float]) -> str:
    return f"{number(cell['mean'])}<br><small>[{number(cell['low'])},\u00a0{number(cell['high'])}]</small>"


def _rows(block: Mapping[str, Any]) -> str:
    columns = ("RMSE", f"RMSE above *{block['reference']}*", "level error", "CCC", "CCC of shape")
    rows = []
    for name, cells in block["rows"].items():
        line = [name]
        for d in DIMENSIONS:
            own = cells[d]
            above = _interval(own["rmse_above"]) if "rmse_above" in own else ""
            line += [number(own["rmse"]["mean"]), above, *(number(own[s]["mean"]) for s in ("level", "ccc", "shape"))]
        rows.append(line)
    return markdown.table(["row", *(f"{d}: {column}" for d in DIMENSIONS for column in columns)], rows)


def _block(name: str, document: Mapping[str, Any]) -> str:
    block = document["protocols"][name]
    people = f"{block['people']} people, " if block["people"] else ""
    flat = f", {block['flat_curves']} of them flat and without a CCC" if block.get("flat_curves") else ""
    size = f"{block['curves']} curves{flat}, {people}{block['songs']} pieces"
    return f"{_rows(block)}\n\nAsked: {ASKED[name]} ({size}). Intervals: 95 %, paired, people, pieces and seeds crossed."


def _goals(documents: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for split, document in zip(SPLITS, documents, strict=True):
        for goal in document["goals"]:
            pairs = [" / ".join(number(value) for value in goal[key]) for key in ("limit", "seen")]
            met = " / ".join("yes" if met else "no" for met in goal["met"])
            rows.append([split, goal["what"], f"{goal['goal']} {pairs[0]}", pairs[1], met])
    return markdown.table(["split", "arousal / valence", "goal", "seen", "met"], rows)


def text(name: str, reference: Path) -> str:
    """One block: "goals", "stamps", or a protocol of the first split ("averaged", "cross-song", "prefix", "arena")."""
    documents = [read_result(reference / f"listeners-{split}.json") for split in SPLITS]
    if name == "goals":
        return _goals(documents)
    if name == "stamps":
        lines = [f"{stamp_line(d)} · labels real, audio {d['audio']}" for d in documents]
        return "\n\n".join(f"<small>{line}</small>" for line in lines)
    return _block(name, documents[0])
