"""The chapter "What can one sample tell?": tables and pictures from ``data/listeners.json``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from book.builder import markdown
from dsaml.config import DIMENSIONS
from dsaml.evaluate.evidence import OTHERS, ROWS, level_error_left
from dsaml.evaluate.listeners import SONGS
from dsaml.evaluate.metrics import LEVEL_AND_SHAPE
from dsaml.evaluate.traits import KINDS, TRAITS
from dsaml.plots.listeners import tenths

TITLES = {"vgmidi": "real: VGMIDI", "synthetic": "embedded corpus", "stress": "stress test"}
"""The data sets that are shown, in this order; the others of the file are not."""
COLUMNS = [f"{title}: {d}" for title in TITLES.values() for d in DIMENSIONS]
SHARES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 0.9)  # own shares in the table of decisions
Found = Mapping[str, Any]


def _signed(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def _interval(cell: Mapping[str, Any], key: str, digits: int = 2, scale: float = 1) -> str:
    """A number, and below it its interval where there is one."""
    if cell[key] is None:
        return "none"
    text = _signed(scale * cell[key], digits)
    if "low" not in cell:
        return text
    return f"{text}<br><small>[{_signed(scale * cell['low'], digits)},\u00a0{_signed(scale * cell['high'], digits)}]</small>"


def _components(facts: Found) -> str:
    names = list(facts["vgmidi"]["variance"])
    rows = [
        [name, *(_interval(facts[s]["variance"][name][d], "share", 1, 100) for s in TITLES for d in DIMENSIONS)]
        for name in names
    ]
    return markdown.table(["share of variance, %", *COLUMNS], rows)


def _traits(facts: Found) -> str:
    rows = [
        [f"{trait}, {kind}", *(_interval(facts[s]["traits"][trait][kind][d], "r") for s in TITLES for d in DIMENSIONS)]
        for trait in TRAITS
        for kind in KINDS
    ]
    return markdown.table(["rank correlation", *COLUMNS], rows)


def _picture(trait: str, facts: Found, figures: Path) -> str:
    real, embedded = facts["vgmidi"]["traits"][trait], facts["synthetic"]["traits"][trait]
    columns = [(f"real: {kind}", real[kind]) for kind in KINDS] + [("embedded: another song", embedded["another song"])]
    told = "; ".join(
        f"{title} " + ", ".join(f"{d} {_interval({'r': cells[d]['r']}, 'r')}" for d in DIMENSIONS)
        for title, cells in columns
    )
    alt = f"Tenth of the {trait} here against the tenth there, shaded by the number of pairs; rank correlations: {told}"
    see = "A dark diagonal means that a listener who is high here is high there; an even grey means that it tells nothing."
    return markdown.picture(tenths(columns), figures / f"trait-{trait}.svg", alt, see)


def _evidence(name: str, found: Found) -> str:
    header = ["known of the listener", "predicted"]
    header += [f"{d}: {s}" for d in DIMENSIONS for s in ("RMSE", "RMSE above", "level error", "CCC", "CCC of shape")]
    rows = []
    for row, (known, _) in ROWS.items():
        cells = []
        for d in DIMENSIONS:
            score = found["rows"][row][d]
            means = {s: _signed(score[s], 3) for s in LEVEL_AND_SHAPE}
            above = _interval(score["rmse_above"], "mean", 3) if "rmse_above" in score else ""
            cells += [means["rmse"], above, means["level"], means["ccc"], means["shape"]]
        rows.append([known, row, *cells])
    return f"{markdown.table(header, rows)}\n\n{TITLES[name]}, {found['tracks']} tracks; RMSE above: beside *{OTHERS}*."


def _brings(facts: Found) -> str:
    rows = []
    for s, title in TITLES.items():
        for d in DIMENSIONS:
            left, share = facts[s]["more_songs"][d], facts[s]["variance"]["own share of level"][d]
            cells = [f"{100 * left[str(n)][way]:.0f}" for way in ("subtraction", "shrinkage") for n in SONGS]
            rows.append([f"{title}: {d}", _interval(share, "share", 1, 100), *cells])
    return markdown.table(_decision_header("data set"), rows)


def _decision_header(first: str) -> list[str]:
    names = {"offset added": "offset added", "best part": "best part of it"}
    return [
        first,
        "own share of level, %",
        *(f"{n} {'song' if n == 1 else 'songs'}: {name}" for name in names.values() for n in SONGS),
    ]


def _decisions() -> str:
    rows = []
    for share in SHARES:
        left = [level_error_left(share, n) for n in SONGS]
        safe = "never" if share == 0 else str(int((1 - share) / share) + 1)
        rows.append([f"{100 * share:.0f}", *(f"{100 * pair[way]:.0f}" for way in (0, 1) for pair in left), safe])
    return markdown.table([*_decision_header("")[1:], "adding it helps from … songs on"], rows)


def stamp(found: Found) -> str:
    """Where the numbers of a data set come from."""
    kind = "real data" if found["real"] else "synthetic data"
    size = f"{found['songs']} songs, {found['tracks']} tracks, {found['pairs']} pairs of songs of a person"
    return f"<small>{kind}: {found['source']}; {size}; `{found['command']}`, {found['date']}</small>"


def text(name: str, facts: Found, figures: Path) -> str:
    """One block of the chapter.

    Parameters
    ----------
    name : str
        "variance", "traits", "evidence", "evidence-synthetic", "songs", "decisions", "stamps", or one of ``TRAITS``.
    facts : mapping
        Content of ``data/listeners.json``.
    figures : Path
        Folder beside the page, where its pictures are put.
    """
    if name in TRAITS:
        return _picture(name, facts, figures)
    if name.startswith("evidence"):
        dataset = name.partition("-")[2] or "vgmidi"
        return _evidence(dataset, facts[dataset]["evidence"])
    made = {"variance": _components, "traits": _traits, "songs": _brings, "decisions": lambda facts: _decisions()}
    made["stamps"] = lambda facts: "\n\n".join(stamp(facts[s]) for s in TITLES)
    return made[name](facts)
