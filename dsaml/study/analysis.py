"""Statistics of the subjective study's ranks: those of Figure 6, and beside them a mixed model, effects of the order, power.

The unit of Figure 6 is the **participant**: ranks of one participant's ten songs are averaged first, because they are not
independent. ``rankings`` are what :func:`dsaml.study.answers.read_rankings` returns: of a study, of a pilot, or simulated.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.api as sm
from rich.table import Table
from scipy import stats
from statsmodels.stats.power import TTestPower

from dsaml.config import DIMENSIONS
from dsaml.errors import DsamlError
from dsaml.evaluate.bootstrap import holm
from dsaml.study.answers import ORDER

REPLICATES = 2000  # of the bootstrap over participants
LEVEL, POWER = 0.05, 0.8  # of a test, and what a study is planned for
STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))  # as in Figure 6
FEWEST_POSITIONS = 3  # songs of a participant, for a slope


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


def _wide(rankings: pd.DataFrame, dimension: str) -> pd.DataFrame:
    """Ranks of one dimension: rows participants and their songs, columns methods."""
    part = rankings[rankings.dimension == dimension]
    return part.pivot_table(index=["participant_id", "song_id"], columns="method", values="rank")


def _crossed(difference: pd.Series) -> dict[str, float]:
    """Mean of differences with crossed random effects of participant and song (REML); z-test of it against zero."""
    table = difference.rename("difference").reset_index()
    several = [name for name in ("participant", "song") if table[f"{name}_id"].nunique() > 1]
    cells = {name: f"0 + C({name}_id)" for name in several}
    if table.difference.nunique() < 2 or not cells:
        nothing = dict.fromkeys(("sd_participant", "sd_song", "sd_rest"), 0.0)
        return {"difference": float(difference.mean()), "se": float("nan"), "p": float("nan")} | nothing
    with warnings.catch_warnings():  # a variance at its bound of zero is no failure
        warnings.simplefilter("ignore")
        model = sm.MixedLM.from_formula("difference ~ 1", groups=np.ones(len(table)), vc_formula=cells, data=table)
        fit = model.fit(reml=True, method=["lbfgs"])
    spread = dict(zip(model.exog_vc.names, np.sqrt(np.maximum(fit.vcomp, 0)), strict=True))
    columns = {"difference": fit.fe_params, "se": fit.bse_fe, "p": fit.pvalues}
    found = {name: float(values.iloc[0]) for name, values in columns.items()}
    found |= {f"sd_{name}": float(spread.get(name, 0.0)) for name in ("participant", "song")}
    return found | {"sd_rest": float(np.sqrt(fit.scale))}


def mixed_model(rankings: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """Every pair of methods by a linear mixed model: songs are a sample too, not only participants.

    For a pair the difference of its ranks, of each participant and song, is ``mean + participant + song + rest`` with normal random
    effects (Baayen, Davidson and Bates 2008); ranks of one song are tied to each other, differences of a pair are not.

    Returns
    -------
    dict
        For each dimension a list of pairs: ``difference`` (negative: ``a`` fits better), ``se``, ``p``, ``p_holm``, ``stars``,
        and the SD over participants, over songs and of the rest. ``p`` is NaN where all differences are equal.
    """
    out = {}
    for dimension in DIMENSIONS:
        wide = _wide(rankings, dimension)
        pairs = [{"a": a, "b": b, **_crossed(wide[a] - wide[b])} for a, b in combinations(wide.columns, 2)]
        for pair, p in zip(pairs, holm([pair["p"] for pair in pairs]), strict=True):
            pair |= {"p_holm": p, "stars": stars(p) if np.isfinite(p) else "–"}
        out[dimension] = pairs
    return out


def order_effects(rankings: pd.DataFrame) -> dict[str, dict[str, Any]] | None:
    """Whether ranks depend on where a curve stood on the screen, or on when a song came (:data:`dsaml.study.answers.ORDER`).

    Returns
    -------
    dict or None
        For each dimension: ``shown``, the mean rank by letter over participants, and Friedman's p-value for it being the
        same; ``position``, for each method how its rank changes from one song to the next (mean over participants of each one's
        slope, ranks for each song), with a t-test and Holm's correction; empty with fewer than three songs each. None where the
        order is not known.
    """
    if not set(ORDER) <= set(rankings.columns):
        return None
    out: dict[str, dict[str, Any]] = {}
    for dimension in DIMENSIONS:
        part = rankings[rankings.dimension == dimension]
        letters = part.pivot_table(index="participant_id", columns="shown", values="rank").dropna()
        p = float("nan")
        if letters.shape[1] > 2 and len(letters) > 2 and not (letters.nunique(axis=1) == 1).all():
            p = float(stats.friedmanchisquare(*(letters[name] for name in letters)).pvalue)
        slopes: dict[str, list[float]] = {}
        for (_, method), own in part.groupby(["participant_id", "method"]):
            if own.position.nunique() >= FEWEST_POSITIONS:
                slopes.setdefault(method, []).append(float(np.polyfit(own.position, own["rank"], 1)[0]))
        tested = {name: values for name, values in slopes.items() if len(values) > 2}
        raw = [float(stats.ttest_1samp(v, 0).pvalue) if np.ptp(v) > 0 else float("nan") for v in tested.values()]
        position = {
            name: {"slope": float(np.mean(values)), "p": p_one, "p_holm": p_holm}
            for (name, values), p_one, p_holm in zip(tested.items(), raw, holm(raw), strict=True)
        }
        out[dimension] = {"shown": {"mean_rank": letters.mean().to_dict(), "p": p}, "position": position}
    return out


def simulated_power(rankings: pd.DataFrame, participants: int, studies: int = 500) -> dict[str, list[dict[str, Any]]]:
    """How often a next study with so many participants would find each pair's difference, if these answers were the population.

    Participants are drawn with replacement, and of each one the songs; the difference counts as found if Holm's correction over
    all pairs leaves the paired t-test significant, in the direction of the answers at hand. What a small study overestimates, this
    overestimates too.

    Returns
    -------
    dict
        For each dimension a list of pairs with ``a``, ``b``, ``power``.
    """
    rng, out = np.random.default_rng(0), {}
    for dimension in DIMENSIONS:
        wide = _wide(rankings, dimension)
        blocks = [own.to_numpy() for _, own in wide.groupby(level=0)]  # (songs, methods) each
        first, second = np.array(list(combinations(range(wide.shape[1]), 2))).T
        who = rng.integers(len(blocks), size=(studies, participants))
        means = np.empty((studies, participants, wide.shape[1]))
        for k, block in enumerate(blocks):
            songs = rng.integers(len(block), size=(int((who == k).sum()), len(block)))
            means[who == k] = block[songs].mean(1)
        difference = means[..., first] - means[..., second]  # (studies, participants, pairs)
        truth = mean_ranks(rankings, dimension).mean().to_numpy()
        with warnings.catch_warnings():  # where nobody differs nothing is found
            warnings.simplefilter("ignore")
            p = np.nan_to_num(stats.ttest_1samp(difference, 0, axis=1).pvalue, nan=1.0)  # (studies, pairs)
        found = np.array([holm(study) for study in p]) <= LEVEL
        found &= np.sign(difference.mean(1)) == np.sign(truth[first] - truth[second])
        pairs = zip(combinations(wide.columns, 2), found.mean(0), strict=True)
        out[dimension] = [{"a": a, "b": b, "power": float(share)} for (a, b), share in pairs]
    return out


PAIRS = {
    "pair": "{a} - {b}",
    "difference": "{difference:+.2f}",
    "t-test": "{stars}",
    "Holm t": "{p_t_holm:.2g}",
    "Holm Wilcoxon": "{p_w_holm:.2g}",
    "dz": "{dz:+.2f}",
}
MIXED = {
    "pair": "{a} - {b}",
    "difference": "{difference:+.2f}",
    "SE": "{se:.2f}",
    "Holm": "{p_holm:.2g}",
    "": "{stars}",
    "SD participants": "{sd_participant:.2f}",
    "SD songs": "{sd_song:.2f}",
}
"""Columns of the tables, and how a pair fills them."""


def tables(found: Mapping[str, Any]) -> list[Table]:
    """For the terminal what :func:`analyse` found, with ``mixed_model``, ``order``, and ``power`` by number of participants."""
    out = []
    for dimension in DIMENSIONS:
        part = found[dimension]
        means = Table("method", "mean rank", "95 % over participants", title=f"{dimension}: {found['participants']} participants")
        for name, cell in part["methods"].items():
            means.add_row(name, f"{cell['mean_rank']:.2f}", "{:.2f} to {:.2f}".format(*cell["bootstrap_interval"]))
        means.caption = "Friedman chi2 = {chi2:.1f}, p = {p:.2g}, W = {kendall_w:.2f}".format(**part["friedman"])
        pairs = Table(*PAIRS, title=f"{dimension}: pairs")
        for pair in part["pairs"]:
            pairs.add_row(*(cell.format(**pair) for cell in PAIRS.values()))
        mixed = Table(*MIXED, *(f"power n={n}" for n in found["power"]), title=f"{dimension}: mixed model")
        for k, pair in enumerate(found["mixed_model"][dimension]):
            powers = (f"{of[dimension][k]['power']:.2f}" for of in found["power"].values())
            mixed.add_row(*(cell.format(**pair) for cell in MIXED.values()), *powers)
        out += [means, pairs, mixed]
        if found["order"]:
            shown, position = found["order"][dimension]["shown"], found["order"][dimension]["position"]
            order = Table("order", "effect", "p", title=f"{dimension}: order")
            told = ", ".join(f"{name} {rank:.2f}" for name, rank in shown["mean_rank"].items())
            order.add_row("place on the screen", f"mean rank {told}", f"{shown['p']:.2g}")
            for name, cell in position.items():
                order.add_row(f"from song to song: {name}", f"{cell['slope']:+.3f} ranks", f"{cell['p_holm']:.2g} (Holm)")
            out.append(order)
    return out
