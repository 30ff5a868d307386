"""What the arena's result file says, for readers: tables and sentences. Nothing is computed here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table

from dsaml.arena.gradient import Maml
from dsaml.config import DIMENSIONS
from dsaml.experiment.arena import ONE_SONG, SMALL
from dsaml.experiment.claims import LEVEL


def terminal_table(payload: Mapping[str, Any]) -> Table:
    """The arena's rows of one song: CCC with interval, share of the gap closed, milliseconds and bytes of one listener."""
    out = Table(title=f"one song of {ONE_SONG}: CCC [95 % interval]", caption=f"best on validation: {payload['best']}")
    out.add_column("")
    for column in (*DIMENSIONS, "gap closed", "adapt, ms", "bytes"):
        out.add_column(column, justify="right")
    for name, row in payload["rows"].items():
        cells = ["{mean:.3f} [{low:.3f}, {high:.3f}]".format(**row[d]["ccc"]) for d in DIMENSIONS]
        gap = payload["gap_closed"].get(name)
        cells.append(" / ".join(f"{gap[d]:.0%}" for d in DIMENSIONS) if gap else "")
        told = list(payload["about"].get(name, {}).values())
        cost = [f"{np.mean([t['adapt_ms'] for t in told]):.1f}", f"{told[0]['bytes']:,}"] if told else ["", ""]
        out.add_row(name, *cells, *cost)
    return out


def table(payload: Mapping[str, Any]) -> pd.DataFrame:
    """Every row for readers: CCC with interval, RMSE, share of the gap closed, and what one listener costs."""
    lines = []
    for name, row in payload["rows"].items():
        told, gap = list(payload["about"].get(name, {}).values()), payload["gap_closed"].get(name)
        line = {"method": payload["method"].get(name, name), "hears": payload["heard"].get(name, "")}
        for d in DIMENSIONS:
            line[f"{d}: CCC"] = "{mean:.3f} [{low:.3f}, {high:.3f}]".format(**row[d]["ccc"])
            line[f"{d}: RMSE"] = f"{row[d]['rmse']['mean']:.3f}"
        line["gap closed"] = " / ".join(f"{gap[d]:.0%}" for d in DIMENSIONS) if gap else ""
        for key, digits in (("adapt_ms", 1), ("bytes", 0)):
            values = [t[key] for t in told if key in t]
            line[key.replace("_", " ")] = f"{np.mean(values):,.{digits}f}" if values else ""
        lines.append(line)
    return pd.DataFrame(lines)


def in_words(payload: Mapping[str, Any]) -> dict[str, str]:
    """What came out, as sentences: ``best``, ``against`` (paired differences), ``dsaml`` (rows that hear DSAML's own features)."""
    rows, heard, method = payload["rows"], payload["heard"], payload["method"]

    def scores(name: str) -> str:
        cells = [f"{rows[name][d]['ccc']['mean']:.3f} in {d}" for d in DIMENSIONS]
        gap = payload["gap_closed"].get(name)
        closed = f", {' and '.join(f'{gap[d]:.0%}' for d in DIMENSIONS)} of the gap" if gap else ""
        return " and ".join(cells) + closed

    def validation(name: str) -> float:
        return float(np.mean([told["chosen"][ONE_SONG]["validation_ccc"] for told in payload["about"][name].values()]))

    best = payload["best"]
    others = {name: f"MAML on {heard[name]}" for name in method if method[name] == Maml.name}
    others[payload["published"]] = "the paper's MAML through the whole of DSAML"
    against = []
    for name, words in others.items():
        if cells := payload["paired"]["against"].get(name):
            told = [
                "{mean:+.3f} [{low:+.3f}, {high:+.3f}]".format(**cells[d])
                + ("" if cells[d]["p_holm"] < LEVEL else " (not decided)")
                + f" in {d}"
                for d in DIMENSIONS
            ]
            against.append(f"minus {words}: {' and '.join(told)}")
    own = [name for name in method if heard[name] != SMALL]
    text = {"best": f"{method[best]} on {heard[best]}: CCC {scores(best)}.", "against": "; ".join(against) + "."}
    if own:
        chosen = max(own, key=validation)
        text["dsaml"] = f"{method[chosen]}, {heard[chosen]}: CCC {scores(chosen)}."
    return text
