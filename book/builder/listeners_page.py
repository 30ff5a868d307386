"""The chapter "What can one sample tell?": tables and pictures from ``data/listeners.json``; and the models for real people, from
``data/reference/listeners-*.json`` and, of the arena's methods, ``arena-vgmidi*.json``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from book.builder.markdown import folded, interval, number, picture, table
from dsaml.arena.low_rank import LowRank
from dsaml.config import DIMENSIONS
from dsaml.evaluate.evidence import OTHERS, ROWS, level_error_left
from dsaml.evaluate.floors import FLAT_TOO
from dsaml.evaluate.listeners import SONGS
from dsaml.evaluate.traits import KINDS, TRAITS
from dsaml.experiment.arena_rows import SMALL, label
from dsaml.experiment.listeners import harmless
from dsaml.experiment.results import read_result, stamp_line
from dsaml.plots.listeners import tenths

TITLES = {"vgmidi": "real: VGMIDI", "synthetic": "embedded corpus", "stress": "stress test"}
"""The data sets that are shown, in this order; the others of the file are not."""
COLUMNS = [f"{title}: {d}" for title in TITLES.values() for d in DIMENSIONS]
SHARES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 0.9)  # own shares in the table of decisions
LEFT = [f"{n} {'song' if n == 1 else 'songs'}: {way}" for way in ("offset added", "best part of it") for n in SONGS]
Found = Mapping[str, Any]


def _components(facts: Found) -> str:
    names = list(facts["vgmidi"]["variance"])
    rows = [
        [name, *(interval(facts[s]["variance"][name][d], "share", 1, scale=100) for s in TITLES for d in DIMENSIONS)]
        for name in names
    ]
    return table(["share of variance, %", *COLUMNS], rows)


def _traits(facts: Found) -> str:
    rows = [
        [f"{trait}, {kind}", *(interval(facts[s]["traits"][trait][kind][d], "r", 2) for s in TITLES for d in DIMENSIONS)]
        for trait in TRAITS
        for kind in KINDS
    ]
    return table(["rank correlation", *COLUMNS], rows)


def _picture(trait: str, facts: Found, figures: Path) -> str:
    real, embedded = facts["vgmidi"]["traits"][trait], facts["synthetic"]["traits"][trait]
    columns = [(f"real: {kind}", real[kind]) for kind in KINDS] + [("embedded: another song", embedded["another song"])]
    told = "; ".join(
        f"{title} " + ", ".join(f"{d} {interval({'r': cells[d]['r']}, 'r', 2)}" for d in DIMENSIONS)
        for title, cells in columns
    )
    alt = f"Tenth of the {trait} here against the tenth there, shaded by the number of pairs; rank correlations: {told}"
    see = "A dark diagonal means that a listener who is high here is high there; an even grey means that it tells nothing."
    return picture(tenths(columns), figures / f"trait-{trait}.svg", alt, see)


def _scored(rows: Found, first: Mapping[str, list[str]], header: list[str], above: str = "") -> str:
    """Rows of scores, the four of each dimension and what RMSE is above another row's; ``first`` has each row's first cells."""
    lines = []
    for name, line in first.items():
        cells = list(line)
        for own in (rows[name][d] for d in DIMENSIONS):
            rmse, level, ccc, shape = (
                number(own[s]["mean"] if isinstance(own[s], dict) else own[s]) for s in ("rmse", "level", "ccc", "shape")
            )
            cells += [rmse, interval(own["rmse_above"]) if "rmse_above" in own else "", level, ccc, shape]
        lines.append(cells)
    scores = ("RMSE", f"RMSE above{above}", "level error", "CCC", "CCC of shape")
    return table([*header, *(f"{d}: {score}" for d in DIMENSIONS for score in scores)], lines)


def _evidence(name: str, found: Found) -> str:
    known = {row: [known, row] for row, (known, _) in ROWS.items()}
    rows = _scored(found["rows"], known, ["known of the listener", "predicted"])
    return f"{rows}\n\n{TITLES[name]}, {found['tracks']} tracks; RMSE above: beside *{OTHERS}*."


def _brings(facts: Found) -> str:
    rows = []
    for s, title in TITLES.items():
        for d in DIMENSIONS:
            left, share = facts[s]["more_songs"][d], facts[s]["variance"]["own share of level"][d]
            cells = [f"{100 * left[str(n)][way]:.0f}" for way in ("subtraction", "shrinkage") for n in SONGS]
            rows.append([f"{title}: {d}", interval(share, "share", 1, scale=100), *cells])
    return table(["data set", "own share of level, %", *LEFT], rows)


def _decisions(facts: Found) -> str:
    rows = []
    for share in SHARES:
        left = [level_error_left(share, n) for n in SONGS]
        safe = "never" if share == 0 else str(int((1 - share) / share) + 1)
        rows.append([f"{100 * share:.0f}", *(f"{100 * pair[way]:.0f}" for way in (0, 1) for pair in left), safe])
    return table(["own share of level, %", *LEFT, "adding it helps from … songs on"], rows)


def stamp(found: Found) -> str:
    """Where the numbers of a data set come from."""
    kind = "real data" if found["real"] else "synthetic data"
    size = f"{found['songs']} songs, {found['tracks']} tracks, {found['pairs']} pairs of songs of a person"
    return f"<small>{kind}: {found['source']}; {size}; `{found['command']}`, {found['date']}</small>"


def text(name: str, facts: Found, figures: Path) -> str:
    """One block of the chapter, from the content of ``data/listeners.json``: "variance", "traits", "evidence",
    "evidence-synthetic", "songs", "decisions", "stamps", or one of ``TRAITS``."""
    if name in TRAITS:
        return _picture(name, facts, figures)
    if name.startswith("evidence"):
        dataset = name.partition("-")[2] or "vgmidi"
        return _evidence(dataset, facts[dataset]["evidence"])
    if name == "stamps":
        return "\n\n".join(stamp(facts[s]) for s in TITLES)
    return {"variance": _components, "traits": _traits, "songs": _brings, "decisions": _decisions}[name](facts)


SPLITS = ("vgmidi", "vgmidi-2")
"""Real people's data set under two splits by blocks of pieces."""
ASKED = {
    "averaged": "the averaged label of pieces that nobody in training rated",
    "cross-song": "a person's curve of one piece, another of theirs being known",
    "prefix": "the second half of a person's curve, its first half being known",
}
SHIPPED = label((SMALL, LowRank.name))
"""What ``personalize`` uses unless it is told otherwise."""


ANOTHER = "The same with another split of the pieces"


def _protocol(name: str, document: Found) -> str:
    block = document["protocols"][name]
    rows = _scored(block["rows"], {row: [row] for row in block["rows"]}, ["row"], f" *{block['reference']}*")
    people = f"{block['people']} people, " if block["people"] else ""
    flat = f", {block['flat_curves']} of them flat and without a CCC" if block.get("flat_curves") else ""
    size = f"{block['curves']} curves{flat}, {people}{block['songs']} pieces"
    asked = ASKED[name.removesuffix(FLAT_TOO)]
    return f"{rows}\n\nAsked: {asked} ({size}). Intervals: 95 %, paired, people, pieces and seeds crossed."


def _arena(payload: Found) -> str:
    """The arena's rows on real people: what they do to RMSE is what matters there."""
    rows = []
    for name, cells in payload["rows"].items():
        above = payload["rmse_above"].get(name)
        line = [payload["method"].get(name, name), payload["heard"].get(name, "")]
        for d in DIMENSIONS:
            line += [number(cells[d]["rmse"]["mean"]), interval(above[d]) if above else "", number(cells[d]["ccc"]["mean"])]
        rows.append(line)
    columns = [f"{d}: {column}" for d in DIMENSIONS for column in ("RMSE", "RMSE above *no adaptation*", "CCC")]
    said = "Asked: as above, of pieces that fill a clip. *No adaptation* hears the same features. Intervals: 95 %, people, pieces"
    return f"{table(['row', 'hears', *columns], rows)}\n\n{said} and training seeds crossed."


def _goals(documents: Mapping[str, Found], arenas: Mapping[str, Found]) -> str:
    rows = []
    for split, document in documents.items():
        goals = list(document["goals"])
        if split in arenas:
            goals.append(harmless(f"cross-song, what personalize uses ({LowRank.name})", arenas[split]["rmse_above"][SHIPPED]))
        for goal in goals:
            limit, seen = (" / ".join(map(number, goal[key])) for key in ("limit", "seen"))
            met = " / ".join("yes" if met else "no" for met in goal["met"])
            rows.append([goal["what"], split, f"{goal['goal']} {limit}", seen, met])
    return table(["arousal / valence", "split", "goal", "seen", "met"], rows)


def people(name: str, reference: Path) -> str:
    """A block about the models for real people: "goals", "stamps", "arena", or one of ``ASKED``; the second split is folded."""
    files = {split: reference / f"arena-{split}.json" for split in SPLITS}
    documents = {split: read_result(reference / f"listeners-{split}.json") for split in SPLITS}
    arenas = {split: read_result(file) for split, file in files.items() if split == SPLITS[0] or file.is_file()}
    if name == "goals":
        return _goals(documents, arenas)
    if name == "arena":
        first, *others = (_arena(payload) for payload in arenas.values())
        return "\n\n".join((first, *(folded(ANOTHER, other) for other in others)))
    if name == "stamps":
        lines = [f"{stamp_line(d)} · labels real, audio {d['audio']}" for d in documents.values()]
        lines += [f"the arena: {stamp_line(d)} · labels real" for d in arenas.values()]
        return "\n\n".join(f"<small>{line}</small>" for line in lines)
    first, second = documents.values()
    parts = [_protocol(name, first)]
    if (more := name + FLAT_TOO) in first["protocols"]:
        parts.append(folded("The same with tracks that never move", _protocol(more, first)))
    return "\n\n".join((*parts, folded(ANOTHER, _protocol(name, second))))
