"""Real listeners: every question of :mod:`dsaml.experiment.listeners_protocols`, its scores against the goals, the result file."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table as RichTable

from dsaml.config import DIMENSIONS
from dsaml.data.base import with_flat
from dsaml.data.render import rendered_with
from dsaml.errors import DsamlError
from dsaml.evaluate.floors import CONSTANT, FLAT_TOO, SUPPORT_LAST
from dsaml.experiment.listeners_averaged import GAINED, averaged
from dsaml.experiment.listeners_protocols import (
    ALL,
    HEADS,
    OFFSET,
    SCORES,
    STATE_GAINED,
    Room,
    cross_song,
    hear,
    prefix,
    summary,
)
from dsaml.experiment.results import provenance, write_result
from dsaml.experiment.run import Experiment
from dsaml.listeners.heads import fit_heads, left_out

log = logging.getLogger(__name__)


def goals(protocols: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was to be shown, what is seen, and whether it is met, by dimension."""

    def cells(protocol: str, row: str, score: str, key: str = "mean") -> list[float]:
        return [protocols[protocol]["rows"][row][d][score][key] for d in DIMENSIONS]

    def goal(what: str, wanted: str, limits: Sequence[float], seen: Sequence[float], above: bool) -> dict[str, Any]:
        met = [s >= w if above else s < w for s, w in zip(seen, limits, strict=True)]
        return {"what": what, "goal": wanted, "limit": list(limits), "seen": list(seen), "met": met}

    out = []
    for what, protocol, row, floor, below, least in (
        ("averaged labels", "averaged", GAINED, CONSTANT, "below the constant's", (0.10, 0.12)),
        ("prefix", "prefix", STATE_GAINED, SUPPORT_LAST, "below the last value's", (0.10, 0.10)),
    ):
        limits, seen = cells(protocol, floor, "rmse"), cells(protocol, row, "rmse")
        out.append(goal(f"{what}, {row}: RMSE", below, limits, seen, False))
        out.append(goal(f"{what}, {row}: CCC", "at least", least, cells(protocol, row, "ccc"), True))
    for row in (OFFSET, ALL):
        cells_of = protocols["cross-song"]["rows"][row]
        out.append(harmless(f"cross-song, {row}", {d: cells_of[d]["rmse_above"] for d in DIMENSIONS}))
    return out


def harmless(row: str, above: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """The goal that a row's RMSE is not above no adaptation's: the low end of the paired interval, by dimension, is not above 0."""
    seen = [max(above[d]["low"], 0.0) for d in DIMENSIONS]
    what = f"{row}: RMSE above no adaptation, low end of the interval"
    out = {"what": what, "goal": "not above", "limit": [0.0, 0.0], "seen": seen, "met": [low <= 0 for low in seen]}
    return out | {"interval": [above[d] for d in DIMENSIONS]}


def run_listeners(experiment: Experiment, results: Path) -> dict[str, Any]:
    """Fit, choose and score everything; write ``listeners-<data set>.json``.

    Parameters
    ----------
    experiment : Experiment
        Of a data set with annotators' own labels and audio.
    results : Path
        Folder of the result file.

    Raises
    ------
    DsamlError
        If the data set has no people with two songs.
    """
    began, data = time.perf_counter(), experiment.dataset
    if not any(data.split.annotators.values()):
        raise DsamlError(f"{data.root}: no labels of single annotators; this is about people")
    room = hear(experiment)
    heads = fit_heads(room.songs, room.labels, room.known)
    others = left_out(room.known, partial(fit_heads, room.songs, room.labels))
    log.info("two heads: penalties %s and %s", heads.level.penalty, heads.shape.penalty)
    chosen: dict[str, Any] = {
        "penalties": {"level": heads.level.penalty.tolist(), "shape": heads.shape.penalty.tolist()},
        "left_out_level_rmse": np.sqrt(heads.level.error).tolist(),
    }
    questions: list[tuple[str, Callable[..., tuple[Any, Any]], str, Room]] = [
        ("averaged", averaged, CONSTANT, room),
        ("cross-song", cross_song, HEADS, room),
        ("prefix", prefix, SUPPORT_LAST, room),
    ]
    if data.flat:  # who never moved has a level: people's own questions once more, fitted and scored with them
        with_them = replace(room, data=with_flat(data))
        questions += [(name + FLAT_TOO, ask_all, reference, with_them) for name, ask_all, reference, _ in questions[1:]]
    protocols = {}
    for name, ask_all, reference, asked in questions:
        table, chosen[name] = ask_all(asked, heads, others)
        protocols[name] = summary(table, reference)
        flat = protocols[name]["flat_curves"]
        log.info("%s: %d curves%s", name, protocols[name]["curves"], f", {flat} of them flat and without a CCC" if flat else "")
    protocols["averaged"] |= {"people": 0, "songs": protocols["averaged"]["people"]}  # songs are what was resampled
    payload = {"protocols": protocols, "chosen": chosen, "goals": goals(protocols), "audio": rendered_with(data.root)}
    stamp = provenance(experiment.profile, data, seeds=[], seconds=time.perf_counter() - began)  # nothing is drawn
    write_result(results / f"listeners-{data.name}.json", payload, stamp)
    return payload


def terminal_tables(payload: Mapping[str, Any]) -> list[RichTable]:
    """One table for each protocol and dimension: RMSE with its paired difference, level error, CCC, CCC of shape."""
    out = []
    for name, block in payload["protocols"].items():
        flat = f", {block['flat_curves']} of them flat (no CCC)" if block["flat_curves"] else ""
        for d in DIMENSIONS:
            caption = f"{block['curves']} curves{flat}; above: {block['reference']}"
            table = RichTable(title=f"{name}, {d}", caption=caption, title_justify="left", caption_justify="left")
            table.add_column("")
            for column in ("RMSE", "above [95 %]", "level", "CCC", "shape"):
                table.add_column(column, justify="right", no_wrap=True)
            for row, cells in block["rows"].items():
                above = cells[d].get("rmse_above")
                told = "{mean:+.3f} [{low:+.3f}, {high:+.3f}]".format(**above) if above else ""
                rest = [f"{cells[d][score]['mean']:.3f}" for score in SCORES[1:]]
                table.add_row(row, f"{cells[d]['rmse']['mean']:.3f}", told, *rest)
            out.append(table)
    return out
