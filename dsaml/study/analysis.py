"""Statistics of the subjective study's ranks, as in Figure 6.

The unit of analysis is the **participant**: ranks of one participant's ten songs are averaged first, because they are not
independent.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table
from scipy import stats
from statsmodels.stats.power import TTestPower

from dsaml.config import DIMENSIONS
from dsaml.errors import DsamlError
from dsaml.evaluate.bootstrap import holm

REPLICATES = 2000  # of the bootstrap over participants
LEVEL, POWER = 0.05, 0.8  # of a test, and what a study is planned for
STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))  # as in Figure 6


def stars(p: float) -> str:
    """``***`` below .001, ``**`` below .01, ``*`` below .05, otherwise ``n.s.`` (Figure 6)."""
    return next((mark for limit, mark in STARS if p < limit), "n.s.")


def mean_ranks(rankings: pd.DataFrame, dimension: str) -> pd.DataFrame:
    """Each participant's mean rank of each method: rows participants, columns methods."""
    part = rankings[rankings.dimension == dimension]
    return part.pivot_table(index="participant_id", columns="method", values="rank", aggfunc="mean").sort_index()


def rank_biserial(difference: np.ndarray) -> float:
    """Matched-pairs rank-biserial correlation: (favourable - unfavourable rank sum) / all, zeros left out."""
    difference = difference[difference != 0]
    if len(difference) == 0:
        return 0.0
    ranks = stats.rankdata(np.abs(difference))
    return float((ranks[difference > 0].sum() - ranks[difference < 0].sum()) / ranks.sum())


def _paired(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Tests of one pair; negative differences mean that ``first`` has the better (lower) rank."""
    difference = first - second
    mean, spread = float(difference.mean()), float(difference.std(ddof=1))
    t = dz = float("nan")
    if spread == 0:  # everybody says the same: no test is needed
        p_t = p_w = 1.0 if mean == 0 else 0.0
    else:
        t, p_t = map(float, stats.ttest_rel(first, second))
        p_w, dz = float(stats.wilcoxon(difference).pvalue), mean / spread
    return {"difference": mean, "t": t, "p_t": p_t, "p_w": p_w, "dz": dz}


def _pairs(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Every pair of methods: tests, Holm's correction over all pairs, effect sizes."""
    columns = {name: table[name].to_numpy() for name in table.columns}
    pairs = [{"a": a, "b": b, **_paired(columns[a], columns[b])} for a, b in combinations(columns, 2)]
    corrected = (holm([pair[p] for pair in pairs]) for p in ("p_t", "p_w"))
    for pair, p_t, p_w in zip(pairs, *corrected, strict=True):
        pair |= {"stars": stars(pair["p_t"]), "p_t_holm": p_t, "p_w_holm": p_w, "stars_holm": stars(p_t)}
        pair["rank_biserial"] = rank_biserial(columns[pair["b"]] - columns[pair["a"]])
    return pairs


def _analyse(table: pd.DataFrame, replicates: int, rng: np.random.Generator) -> dict[str, Any]:
    """The statistics of one dimension from each participant's mean ranks (:func:`mean_ranks`)."""
    n, k = table.shape
    draws = table.to_numpy()[rng.integers(n, size=(replicates, n))].mean(1)  # (replicates, methods)
    half = stats.t.ppf(0.975, n - 1) * table.std(ddof=1) / np.sqrt(n)
    methods = {}
    for j, (method, ranks) in enumerate(table.items()):
        mean = float(ranks.mean())
        methods[method] = {
            "mean_rank": mean,
            "t_interval": [float(mean - half[method]), float(mean + half[method])],
            "bootstrap_interval": [float(v) for v in np.percentile(draws[:, j], (2.5, 97.5))],
        }
    chi, p = map(float, stats.friedmanchisquare(*(ranks for _, ranks in table.items())))
    friedman = {"chi2": chi, "p": p, "kendall_w": chi / (n * (k - 1))}
    return {"methods": methods, "friedman": friedman, "pairs": _pairs(table)}


def analyse(rankings: pd.DataFrame, replicates: int = REPLICATES) -> dict[str, Any]:
    """All statistics of the study.

    Parameters
    ----------
    rankings : DataFrame
        As :func:`dsaml.study.answers.read_rankings` returns it.
    replicates : int
        Of the bootstrap over participants.

    Returns
    -------
    dict
        For each dimension: ``methods`` (mean rank, 95 % t interval, 95 % bootstrap interval over participants), ``friedman``
        (chi-square, p, Kendall's W), and ``pairs`` (paired t-test with stars as in Figure 6, Holm-corrected t and Wilcoxon
        p-values, Cohen's dz, rank-biserial correlation). Also ``participants`` and ``songs``.

    Raises
    ------
    DsamlError
        With fewer than three participants or methods, in either dimension.
    """
    participants, methods = rankings.participant_id.nunique(), rankings.method.nunique()
    if participants < 3 or methods < 3:
        raise DsamlError(f"{participants} participants and {methods} methods; the statistics need at least 3 of each")
    tables = {dimension: mean_ranks(rankings, dimension) for dimension in DIMENSIONS}
    for dimension, table in tables.items():
        if len(table) < 3:
            raise DsamlError(f"{len(table)} participants ranked {dimension}; the statistics need at least 3 in each dimension")
    rng = np.random.default_rng(0)
    out: dict[str, Any] = {"participants": participants, "songs": rankings.song_id.nunique(), "unit": "participant"}
    return out | {dimension: _analyse(table, replicates, rng) for dimension, table in tables.items()}


def power_curve(difference: float, spread: float, participants: list[int]) -> dict[int, float]:
    """Power of the paired t-test for a mean-rank difference whose SD over participants is ``spread``."""
    return {n: float(TTestPower().power(difference / spread, n, LEVEL)) for n in participants}


def detectable_difference(spread: float, participants: int) -> float:
    """Smallest mean-rank difference that ``participants`` find with power 0.8."""
    return float(TTestPower().solve_power(effect_size=None, nobs=participants, alpha=LEVEL, power=POWER) * spread)


def tables(analysis: Mapping[str, Any]) -> list[Table]:
    """The statistics as tables for the terminal, two for each dimension."""
    out = []
    for dimension in DIMENSIONS:
        part, friedman = analysis[dimension], analysis[dimension]["friedman"]
        title = f"{dimension}: {analysis['participants']} participants"
        means = Table("method", "mean rank", "95 % over participants", title=title)
        for name, cell in part["methods"].items():
            means.add_row(name, f"{cell['mean_rank']:.2f}", "{:.2f} to {:.2f}".format(*cell["bootstrap_interval"]))
        means.caption = "Friedman chi2 = {chi2:.1f}, p = {p:.2g}, W = {kendall_w:.2f}".format(**friedman)
        pairs = Table("pair", "difference", "t-test", "Holm t", "Holm Wilcoxon", "dz", title=f"{dimension}: pairs")
        cells = ("{a} - {b}", "{difference:+.2f}", "{stars}", "{p_t_holm:.2g}", "{p_w_holm:.2g}", "{dz:+.2f}")
        for pair in part["pairs"]:
            pairs.add_row(*(cell.format(**pair) for cell in cells))
        out += [means, pairs]
    return out
