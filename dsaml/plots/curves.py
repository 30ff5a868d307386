"""Curves of arousal and valence over time: listeners, predictions before and after personalization; training, tables, errors."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dsaml.config import DIMENSIONS
from dsaml.plots.style import DIMENSION_COLORS, LISTENER_COLORS, PALETTE, legend_below, over_time, panels

STYLES = ("-", "--", ":", "-.")
ENDS = (("calm", "excited"), ("unpleasant", "pleasant"))  # of arousal, of valence


def disagreement(curves: Mapping[str, Any], only_pair: bool = False) -> Figure:
    """Figure 5 of the paper: one song, every listener's curve, their average, and the two who differ most (``curves.json``).

    With ``only_pair`` the other listeners are left out.
    """
    figure, axes = over_time()
    song, times = curves["disagreement"], curves["times"]
    for d, axis in enumerate(axes):
        if not only_pair:
            for who, values in song["listeners"].items():
                if who not in song["pair"]:
                    axis.plot(times, np.array(values)[:, d], color="0.8", lw=0.8)
        for k, who in enumerate(song["pair"]):
            axis.plot(times, np.array(song["listeners"][who])[:, d], color=LISTENER_COLORS[k], lw=2.2, label=f"listener {who}")
        axis.plot(times, np.array(song["mean"])[:, d], color="black", lw=2, ls="--", label="average of all listeners")
    legend_below(figure, axes[1])
    return figure


def before_after(case: Mapping[str, Any], times: Sequence[float], before: str, after: str) -> Figure:
    """One listener and one song: own labels, prediction before and after adaptation to one other song.

    ``case`` is an entry of ``personalization`` in ``curves.json``, ``before`` and ``after`` are names of its curves; times in s.
    """
    figure, axes = over_time()
    for d, axis in enumerate(axes):
        for name, label, style in (
            ("truth", "the listener's own labels", {"color": "black", "lw": 2}),
            (before, "before: the shared starting point", {"color": PALETTE[1], "lw": 1.8, "ls": ":"}),
            (after, "after one annotated song", {"color": PALETTE[0], "lw": 2.4}),
        ):
            axis.plot(times, np.array(case["curves"][name])[:, d], label=label, **style)
    reach = max(np.abs(case["curves"][name]).max() for name in ("truth", before, after))
    axes[0].set_ylim(-max(1.05, 1.05 * reach), max(1.05, 1.05 * reach))  # a prediction may go beyond the labels' scale
    legend_below(figure, axes[1])
    figure.suptitle(
        f"listener {case['listener']}, song {case['song']} (adapted on song {case['support_song']}): "
        f"CCC {case['ccc_before']:.2f} → {case['ccc_after']:.2f}",
        fontsize=11,
    )
    return figure


def case_in_words(case: Mapping[str, Any]) -> str:
    """What :func:`before_after` shows, for those who cannot see it: from the case's own numbers."""
    before, after = case["ccc_before"], case["ccc_after"]
    did = "better" if after > before else "worse" if after < before else "no different"
    return (
        f"Own labels of one listener and the prediction before and after adaptation, for arousal and valence. Percentile "
        f"{case['percentile']} of the gain: adaptation makes it {did}, CCC {before:.2f} before and {after:.2f} after."
    )


def plane(case: Mapping[str, Any], before: str, after: str) -> Figure:
    """The same curves as trajectories in the valence-arousal plane; a dot marks the start."""
    figure, axis = plt.subplots(figsize=(4.6, 4.6), layout="constrained")
    for name, label, color in (("truth", "own labels", "black"), (before, "before", PALETTE[1]), (after, "after", PALETTE[0])):
        arousal, valence = np.array(case["curves"][name]).T
        axis.plot(valence, arousal, color=color, lw=1.8, label=label)
        axis.plot(valence[0], arousal[0], "o", color=color)
    axis.axhline(0, color="0.85", zorder=0)
    axis.axvline(0, color="0.85", zorder=0)
    axis.set(xlim=(-1, 1), ylim=(-1, 1), xlabel="valence", ylabel="arousal")
    axis.legend(frameon=False)
    return figure


def histories(training: Mapping[str, Any], names: Sequence[str]) -> Figure:
    """Training loss (running mean of 20 steps) and validation CCC of several models; a dot marks the weights that are used."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
    for k, name in enumerate(names):
        history = training[name]
        width = min(20, len(history["loss"]))
        loss = np.convolve(history["loss"], np.ones(width) / width, "valid")
        left.plot(np.arange(len(loss)) + width, loss, color=PALETTE[k], label=name)
        steps, scores = np.array(history["validation"]).T
        right.plot(steps, scores, color=PALETTE[k], label=name)
        best = int(np.argmax(scores))
        right.plot(steps[best], scores[best], "o", color=PALETTE[k])
    left.set(xlabel="step", ylabel="training loss")
    right.set(xlabel="step", ylabel="validation CCC")
    right.legend(frameon=False, fontsize=9)
    return figure


def _interval(axis: Axes, place: float, cell: Mapping[str, float], color: Any) -> None:
    """A mean and its interval."""
    axis.plot([cell["low"], cell["high"]], [place, place], color=color, lw=2)
    axis.plot(cell["mean"], place, "o", color=color)


def _name_rows(axis: Axes, names: Sequence[str]) -> None:
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()


def forest(rows: Mapping[str, Any]) -> Figure:
    """Mean CCC and 95 % interval of every method, arousal and valence side by side, in the order of ``rows``."""
    figure, axes = panels(0.42 * len(rows) + 1.2)
    for axis, d in zip(axes, DIMENSIONS, strict=True):
        for k, cells in enumerate(rows.values()):
            _interval(axis, k, cells[d]["ccc"], PALETTE[0])
        axis.set_xlabel("CCC within songs")
        axis.grid(axis="x", color="0.9")
    _name_rows(axes[0], list(rows))
    return figure


def _paired(axis: Axes, cells: Mapping[int, Mapping[str, float]]) -> None:
    """Paired differences by their places: green above zero, orange below, grey where p (Holm) is not below 0.05."""
    for place, cell in cells.items():
        color = "0.5" if cell["p_holm"] >= 0.05 else PALETTE[2] if cell["mean"] > 0 else PALETTE[3]
        _interval(axis, place, cell, color)
    axis.axvline(0, color="black", lw=0.8)
    axis.set_xlabel("paired CCC difference")


def differences(against: Mapping[str, Any], method: str) -> Figure:
    """Paired differences ``method - other`` with their 95 % intervals; right of the line ``method`` is better.

    Green is better and orange worse after Holm's correction, grey is neither.
    """
    figure, axes = panels(0.42 * len(against) + 1.4)
    for axis, d in zip(axes, DIMENSIONS, strict=True):
        _paired(axis, {k: cells[d] for k, cells in enumerate(against.values())})
    _name_rows(axes[0], list(against))
    figure.suptitle(method + " minus …", fontsize=11)
    return figure


def evidence(claims: Sequence[Mapping[str, Any]]) -> Figure:
    """Every paired difference behind the claims, claim by claim: what the verdicts are made of (``claims-*.json``)."""
    labels: list[str] = []
    heads: list[int] = []
    rows: dict[int, Mapping[str, Any]] = {}
    for claim in claims:
        comparisons = claim["comparisons"]
        if not any(row["cells"] for row in comparisons):
            continue
        heads.append(len(labels))
        labels.append(f"{claim['id']}: {claim['verdict']}")
        one = len({row["better"] for row in comparisons}) == 1
        for row in comparisons:
            if row["cells"]:
                rows[len(labels)] = row["cells"]
            labels.append(f"minus {row['worse']}" if one else f"{row['better']} minus {row['worse']}")
    names = list(dict.fromkeys(name for cells in rows.values() for name in cells))  # arousal, valence
    figure, axes = panels(0.25 * len(labels) + 1, names)
    for axis, name in zip(axes, names, strict=True):
        _paired(axis, {place: cells[name] for place, cells in rows.items() if name in cells})
        axis.grid(axis="x", color="0.9")
    axes[0].set_yticks(range(len(labels)), labels, fontsize=8)
    for head in heads:
        axes[0].get_yticklabels()[head].set_fontweight("bold")
    axes[0].set_ylim(len(labels) - 0.4, -0.6)
    return figure


def one_song(curve: pd.DataFrame, title: str, note: str) -> Figure:
    """A predicted curve of a whole song; shaded where it is known how sure the model is: nine of ten labels are expected there.

    ``curve`` has the index ``time_s`` and the columns ``arousal, valence``, perhaps ``arousal_sd, valence_sd``.
    """
    figure, axes = plt.subplots(2, 1, figsize=(9, 5.4), sharex=True, layout="constrained")
    for axis, name, (low, high) in zip(axes, DIMENSIONS, ENDS, strict=True):
        values = curve[name]
        if f"{name}_sd" in curve:
            reach = 1.645 * curve[f"{name}_sd"]  # of a normal distribution, 90 %
            band = (values - reach).clip(-1, 1), (values + reach).clip(-1, 1)
            axis.fill_between(curve.index, *band, color=DIMENSION_COLORS[name], alpha=0.2, lw=0)
        axis.plot(curve.index, values, color=DIMENSION_COLORS[name], lw=1.8)
        axis.axhline(0, color="0.75", lw=0.8, zorder=0)
        axis.set(ylim=(-1.05, 1.05), yticks=(-1, 0, 1), yticklabels=(f"{low} −1", "0", f"{high} +1"), title=name)
    lines = [short for line in note.splitlines() for short in textwrap.wrap(line, 120)]
    axes[1].set_xlabel("\n".join(["time in the song (s)", "", *lines]))
    figure.suptitle("\n".join(textwrap.wrap(title, 100)), fontsize=11)
    return figure


def along_the_song(errors: Mapping[str, Any], times: Sequence[float]) -> Figure:
    """RMSE of each method at each second, over all listeners and songs: ``by_time`` of ``errors.json``; times in s."""
    figure, axes = panels(3.2)
    for d, axis in enumerate(axes):
        for k, (name, values) in enumerate(errors.items()):
            axis.plot(times, np.array(values)[:, d], STYLES[k % 4], color=PALETTE[k], lw=2, label=name)
        axis.set(xlabel="time in the song (s)", ylim=(0, None))
    axes[0].set_ylabel("RMSE")
    legend_below(figure, axes[0], columns=2)
    return figure


def from_listener_to_listener(errors: Mapping[str, Any], method: str, other: str) -> Figure:
    """One dot per listener: mean CCC of two methods, ``by_annotator`` of ``errors.json``; above the line ``method`` is better."""
    figure, axes = panels(4.2)
    for d, axis in enumerate(axes):
        x, y = (np.array([values[d] for values in errors[name].values()]) for name in (other, method))
        axis.plot([-1, 1], [-1, 1], color="0.6", lw=1)
        axis.plot(x, y, "o", color=PALETTE[0], alpha=0.8)
        axis.set(xlabel=f"{other}: CCC", xlim=(-0.3, 1), ylim=(-0.3, 1), aspect="equal")
    axes[0].set_ylabel("CCC of MAML, annotator tasks")
    return figure


def with_more_songs(rows: Mapping[str, Any], labels: Mapping[int, str]) -> Figure:
    """Mean CCC and 95 % interval against the number of annotated songs.

    ``rows`` are those of ``pdmer.json``, ``labels`` the rows' names by numbers of songs.
    """
    figure, axes = panels(3.2)
    for d, axis in zip(DIMENSIONS, axes, strict=True):
        songs = [n for n, label in labels.items() if label in rows]
        cells = [rows[labels[n]][d]["ccc"] for n in songs]
        axis.plot(songs, [c["mean"] for c in cells], "o-", color=PALETTE[0])
        low, high = ([c[end] for c in cells] for end in ("low", "high"))
        axis.fill_between(songs, low, high, color=PALETTE[0], alpha=0.2, lw=0)
        axis.set(xlabel="annotated songs of the listener", xticks=songs)
    axes[0].set_ylabel("CCC on other songs")
    return figure
