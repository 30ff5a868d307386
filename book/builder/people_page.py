"""The models for real people on the chapter "What can one sample tell?": tables from ``dsaml/reference/listeners-*.json`` and, of
the arena's methods, ``arena-vgmidi*.json``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from book.builder import markdown
from dsaml.arena.low_rank import LowRank
from dsaml.config import DIMENSIONS
from dsaml.evaluate.floors import FLAT_TOO
from dsaml.experiment.arena import SMALL, label
from dsaml.experiment.listeners import harmless
from dsaml.experiment.results import read_result, stamp_line

SPLITS = ("vgmidi", "vgmidi-2")
"""The data set under two splits by blocks of pieces."""
ASKED = {
    "averaged": "the averaged label of pieces that nobody in training rated",
    "cross-song": "a person's curve of one piece, another of theirs being known",
    "prefix": "the second half of a person's curve, its first half being known",
}
SHIPPED = label((SMALL, LowRank.name))
"""What ``personalize`` uses unless it is told otherwise."""


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
    asked = ASKED[name.removesuffix(FLAT_TOO)]
    out = f"{_rows(block)}\n\nAsked: {asked} ({size}). Intervals: 95 %, paired, people, pieces and seeds crossed."
    if (more := name + FLAT_TOO) in document["protocols"]:
        out += f"\n\n:::{{dropdown}} The same with tracks that never move\n{_block(more, document)}\n:::"
    return out


def _arena(payload: Mapping[str, Any]) -> str:
    """The arena's rows on real people: what they do to RMSE is what matters there."""
    rows = []
    for name, cells in payload["rows"].items():
        above = payload["rmse_above"].get(name)
        line = [payload["method"].get(name, name), payload["heard"].get(name, "")]
        for d in DIMENSIONS:
            line += [number(cells[d]["rmse"]["mean"]), _interval(above[d]) if above else "", number(cells[d]["ccc"]["mean"])]
        rows.append(line)
    columns = [f"{d}: {column}" for d in DIMENSIONS for column in ("RMSE", "RMSE above *no adaptation*", "CCC")]
    said = "Asked: as above, of pieces that fill a clip. *No adaptation* hears the same features. Intervals: 95 %, people, pieces"
    return f"{markdown.table(['row', 'hears', *columns], rows)}\n\n{said} and training seeds crossed."


def _goals(documents: Mapping[str, Mapping[str, Any]], arenas: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for split, document in documents.items():
        goals = list(document["goals"])
        if split in arenas:
            goals.append(harmless(f"cross-song, what personalize uses ({LowRank.name})", arenas[split]["rmse_above"][SHIPPED]))
        for goal in goals:
            pairs = [" / ".join(number(value) for value in goal[key]) for key in ("limit", "seen")]
            met = " / ".join("yes" if met else "no" for met in goal["met"])
            rows.append([split, goal["what"], f"{goal['goal']} {pairs[0]}", pairs[1], met])
    return markdown.table(["split", "arousal / valence", "goal", "seen", "met"], rows)


def text(name: str, reference: Path) -> str:
    """One block: "goals", "stamps", or a protocol of the first split ("averaged", "cross-song", "prefix", "arena").

    The arena was run on the first split; where it was run on the second, too, the goals say what came out.
    """
    files = {split: reference / f"arena-{split}.json" for split in SPLITS}
    documents = {split: read_result(reference / f"listeners-{split}.json") for split in SPLITS}
    arenas = {split: read_result(file) for split, file in files.items() if split == SPLITS[0] or file.is_file()}
    if name == "goals":
        return _goals(documents, arenas)
    if name == "arena":
        return _arena(arenas[SPLITS[0]])
    if name == "stamps":
        lines = [f"{stamp_line(d)} · labels real, audio {d['audio']}" for d in documents.values()]
        lines += [f"the arena: {stamp_line(d)} · labels real" for d in arenas.values()]
        return "\n\n".join(f"<small>{line}</small>" for line in lines)
    return _block(name, documents[SPLITS[0]])
