"""What the arena's result file says, for readers: tables and sentences. Nothing is computed here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table

from dsaml.arena.gradient import Maml
from dsaml.config import DIMENSIONS
from dsaml.experiment.arena import ONE_SONG
from dsaml.experiment.arena_rows import SMALL
from dsaml.experiment.claims import LEVEL

COST = {"train s": ("train_s", 0), "adapt ms": ("adapt_ms", 1), "bytes": ("bytes", 0)}
"""What a method costs, its name in the file and its decimals: processor seconds of meta-training; of one listener, the rest."""
WIDE = 120  # columns of a terminal that shows the costs, too


def terminal_table(payload: Mapping[str, Any], width: int) -> Table:
    """The arena's rows of one song, by what they hear: CCC with interval, share of the gap closed; costs where they fit in."""
    wide = width >= WIDE
    caption = f"best on validation: {payload['best']}"
    caption += "" if wide else f"\ncosts: in a terminal of {WIDE} columns, or in notebook 07"
    out = Table(title=f"one song of {ONE_SONG}: CCC [95 % interval]", caption=caption, box=SIMPLE_HEAD)
    out.add_column("")
    for column in (*DIMENSIONS, "gap closed, %", *(COST if wide else ())):
        out.add_column(column, justify="right", no_wrap=True)
    heard = None
    for name, row in payload["rows"].items():
        if (hears := payload["heard"].get(name)) != heard:
            out.add_section()
            out.add_row(f"[bold]{hears}")
            heard = hears
        cells = ["{mean:.2f} [{low:.2f}, {high:.2f}]".format(**row[d]["ccc"]) for d in DIMENSIONS]
        gap = payload["gap_closed"].get(name)
        cells.append(" / ".join(f"{100 * gap[d]:.0f}" for d in DIMENSIONS) if gap else "")
        out.add_row(payload["method"].get(name, name), *cells, *(_cost(payload, name).values() if wide else ()))
    return out


def table(payload: Mapping[str, Any]) -> pd.DataFrame:
    """Every row for readers: CCC with interval, RMSE, share of the gap closed, and what the method costs."""
    lines = []
    for name, row in payload["rows"].items():
        gap = payload["gap_closed"].get(name)
        line = {"method": payload["method"].get(name, name), "hears": payload["heard"].get(name, "")}
        for d in DIMENSIONS:
            line[f"{d}: CCC"] = "{mean:.3f} [{low:.3f}, {high:.3f}]".format(**row[d]["ccc"])
            line[f"{d}: RMSE"] = f"{row[d]['rmse']['mean']:.3f}"
        line["gap closed"] = " / ".join(f"{gap[d]:.0%}" for d in DIMENSIONS) if gap else ""
        lines.append(line | _cost(payload, name))
    return pd.DataFrame(lines)


def _cost(payload: Mapping[str, Any], name: str) -> dict[str, str]:
    """``COST`` of a row, means over training seeds; nothing where none tells it."""
    told = payload["about"].get(name, {}).values()
    values = {title: [seed[key] for seed in told if key in seed] for title, (key, _) in COST.items()}
    return {title: f"{_mean(values[title]):,.{digits}f}" if values[title] else "" for title, (_, digits) in COST.items()}


def in_words(payload: Mapping[str, Any]) -> dict[str, str]:
    """What came out, as sentences: ``best``, ``against`` (paired differences), ``dsaml`` (rows that hear DSAML's own features)."""
    rows, heard, method = payload["rows"], payload["heard"], payload["method"]

    def scores(name: str) -> str:
        cells = [f"{rows[name][d]['ccc']['mean']:.3f} in {d}" for d in DIMENSIONS]
        gap = payload["gap_closed"].get(name)
        closed = f", {' and '.join(f'{gap[d]:.0%}' for d in DIMENSIONS)} of the gap" if gap else ""
        return " and ".join(cells) + closed

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
        chosen = max(own, key=lambda name: validation_of(payload, name))
        text["dsaml"] = f"{method[chosen]}, {heard[chosen]}: CCC {scores(chosen)}."
    return text


def ways_to_train(payload: Mapping[str, Any]) -> pd.DataFrame:
    """What the search of each row found: the settings that are best on validation listeners, and the worst and best score there."""
    lines = []
    for name in (row for row in payload["method"] if row in payload["searched"]):
        tried = payload["searched"][name]
        scores = [score for _, score in tried]
        settings = tried[scores.index(max(scores))][0]
        order = {True: "second order", False: "first order"}
        told = ", ".join(order[v] if key == "second_order" else f"{key.replace('_', ' ')} {v}" for key, v in settings.items())
        line = {"method": payload["method"][name], "hears": payload["heard"][name], "tries": len(tried)}
        lines.append(line | {"worst": f"{min(scores):.3f}", "best": f"{max(scores):.3f}", "with": told})
    return pd.DataFrame(lines)


def harm(payload: Mapping[str, Any]) -> dict[str, str]:
    """In words which rows make RMSE worse than no adaptation (the whole interval above 0), and which better.

    ``worse``, ``better``; a row counts where either dimension does, and names the dimension.
    """
    found: dict[str, list[str]] = {"worse": [], "better": []}
    for row, cells in payload["rmse_above"].items():
        worse = [d for d in DIMENSIONS if cells[d]["low"] > 0]
        better = [d for d in DIMENSIONS if cells[d]["high"] < 0]
        for key, dimensions in (("worse", worse), ("better", better)):
            if dimensions:
                found[key].append(f"{payload['method'][row]} on {payload['heard'][row]} ({' and '.join(dimensions)})")
    return {key: "; ".join(rows) or "none" for key, rows in found.items()}


def beliefs(payloads: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Of each row that scales its prior, by how much in each of several runs; means over training seeds."""
    lines: dict[str, dict[str, str]] = {}
    for run, payload in payloads.items():
        for row, about in payload["about"].items():
            if all("belief" in told for told in about.values()):
                means = np.mean([told["belief"] for told in about.values()], 0)
                line = lines.setdefault(row, {"hears": payload["heard"][row]})
                line[f"{run}: arousal / valence"] = " / ".join(f"{mean:.2f}" for mean in means)
    return pd.DataFrame(lines.values()).fillna("")


def uncertainty_of(payload: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Of each row that tells a variance: ``coverage``, ``rank`` and ``rank_song``, averaged over training seeds."""
    out: dict[str, dict[str, Any]] = {}
    for name, about in payload["about"].items():
        seeds = [told["uncertainty"] for told in about.values() if "uncertainty" in told]
        if seeds:
            out[name] = {
                key: {d: _mean(told[key][d] for told in seeds) for d in DIMENSIONS} for key in ("rank", "rank_song")
            } | {
                "coverage": {
                    d: {share: _mean(told["coverage"][d][share] for told in seeds) for share in seeds[0]["coverage"][d]}
                    for d in DIMENSIONS
                }
            }
    return out


def errors_of(payload: Mapping[str, Any]) -> pd.DataFrame:
    """Why errors are hard to rank after one song: of each row that tells a variance, what its errors depend on.

    The share of the variance of errors that lies in the listener, in the support song and in the two together; how well somebody
    ranks errors who knows others (:mod:`dsaml.experiment.arena_errors`); and how well the row itself ranks them.
    """
    lines = []
    for name, told in uncertainty_of(payload).items():
        seeds = [seed["errors"] for seed in payload["about"][name].values() if seed.get("errors", {}).get("shares")]
        line = {"row": f"{payload['method'][name]}, {payload['heard'][name]}"}
        for part in seeds[0]["shares"] if seeds else ():
            line[f"share: {part}"] = _pair([_mean(seed["shares"][part][d] for seed in seeds) for d in DIMENSIONS], "{:.0%}")
        for part in seeds[0]["rank_if_known"] if seeds else ():
            ranks = [_mean(seed["rank_if_known"][part][d] for seed in seeds) for d in DIMENSIONS]
            line[f"rank, knowing other errors of {part}"] = _pair(ranks, "{:.2f}")
        lines.append(line | {"rank, from one song": _pair([told["rank"][d] for d in DIMENSIONS], "{:.2f}")})
    return pd.DataFrame(lines)


def parts_differ(payload: Mapping[str, Any]) -> pd.DataFrame:
    """RMSE after one song on the validation part, where intervals are made, and on the test part, where they are judged."""
    lines = []
    for name, told in uncertainty_of(payload).items():
        rmse = [seed["errors"]["rmse"] for seed in payload["about"][name].values() if "errors" in seed]
        means = {part: np.array([_mean(r[part][d] for r in rmse) for d in DIMENSIONS]) for part in ("validation", "test")}
        line = {"row": f"{payload['method'][name]}, {payload['heard'][name]}"}
        line |= {f"RMSE, {part}": _pair(values, "{:.3f}") for part, values in means.items()}
        line["test / validation"] = _pair(means["test"] / means["validation"], "{:.2f}")
        lines.append(line | {"covered of 90 %": _pair([told["coverage"][d]["0.9"] for d in DIMENSIONS], "{:.0%}")})
    return pd.DataFrame(lines)


def _mean(values: Iterable[float | None]) -> float:
    """NaN where a seed has none: a variance that is the same for everybody ranks nobody."""
    return float(np.mean(np.array(list(values), float)))


def _pair(values: Iterable[float], text: str) -> str:
    """Arousal / valence."""
    return " / ".join(text.format(value) for value in values)


def verdicts(payload: Mapping[str, Any]) -> pd.DataFrame:
    """What the arena was asked to show, and whether it does: rows chosen on validation listeners, numbers of the test listeners."""
    own = [name for name, heard in payload["heard"].items() if heard != SMALL]
    knows, lines = uncertainty_of(payload), []

    def say(asked: str, row: str, values: list[float], text: str, shown: bool) -> None:
        cells = _pair(values, text)
        what = f"{payload['method'][row]}, {payload['heard'][row]}"
        lines.append({"asked": asked, "row": what, "arousal / valence": cells, "": "shown" if shown else "not shown"})

    for share, rows in ((0.45, list(payload["heard"])), (0.35, own)):
        if rows:
            row = max(rows, key=lambda name: validation_of(payload, name))
            gap = [payload["gap_closed"][row][d] for d in DIMENSIONS]
            words = "the best row" if rows is not own else "the best row that hears DSAML's own features"
            say(f"{words} closes {share:.0%} of the gap", row, gap, "{:.0%}", min(gap) >= share)
    for row, told in knows.items():
        covered = [told["coverage"][d]["0.9"] for d in DIMENSIONS]
        say("intervals of 90 % cover 85 to 95 %", row, covered, "{:.1%}", 0.85 <= min(covered) <= max(covered) <= 0.95)
        ranks = [told["rank"][d] for d in DIMENSIONS]
        say("errors are ranked: correlation of at least .4", row, ranks, "{:.2f}", min(ranks) >= 0.4)
    return pd.DataFrame(lines)


def validation_of(payload: Mapping[str, Any], name: str) -> float:
    """A row's CCC on validation listeners from one song, averaged over training seeds: what rows are chosen by."""
    return float(np.mean([told["chosen"][ONE_SONG]["validation_ccc"] for told in payload["about"][name].values()]))
