"""Beside the paper's t-tests: a mixed model of participants and songs, effects of the order, power by simulation."""

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

from dsaml.config import DIMENSIONS
from dsaml.evaluate.bootstrap import holm
from dsaml.study.analysis import LEVEL, mean_ranks, stars
from dsaml.study.answers import ORDER

_CELLS = (*("{a} - {b}", "{difference:+.2f}", "{se:.2f}", "{p_holm:.2g}"), *("{stars}", "{sd_participant:.2f}", "{sd_song:.2f}"))
FEWEST_POSITIONS = 3  # songs of a participant, for a slope


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

    Parameters
    ----------
    rankings : DataFrame
        As :func:`dsaml.study.answers.read_rankings` returns it.

    Returns
    -------
    dict
        For each dimension a list of pairs: ``difference`` (negative: ``a`` fits better), ``se``, ``p``, ``p_holm``, ``stars``,
        and the SD over participants, over songs and of the rest. ``p`` is NaN where all differences are equal.
    """
    out = {}
    for dimension in DIMENSIONS:
        wide = rankings[rankings.dimension == dimension].pivot_table(
            index=["participant_id", "song_id"], columns="method", values="rank"
        )
        pairs = [{"a": a, "b": b, **_crossed(wide[a] - wide[b])} for a, b in combinations(wide.columns, 2)]
        for pair, p in zip(pairs, holm([pair["p"] for pair in pairs]), strict=True):
            pair |= {"p_holm": p, "stars": stars(p) if np.isfinite(p) else "–"}
        out[dimension] = pairs
    return out


def order_effects(rankings: pd.DataFrame) -> dict[str, dict[str, Any]] | None:
    """Whether ranks depend on where a curve stood on the screen, or on when a song came.

    Parameters
    ----------
    rankings : DataFrame
        With the columns of :data:`dsaml.study.answers.ORDER`.

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

    Parameters
    ----------
    rankings : DataFrame
        As :func:`dsaml.study.answers.read_rankings` returns it: of a pilot, of a study, or simulated.

    Returns
    -------
    dict
        For each dimension a list of pairs with ``a``, ``b``, ``power``.
    """
    rng, out = np.random.default_rng(0), {}
    for dimension in DIMENSIONS:
        part = rankings[rankings.dimension == dimension]
        wide = part.pivot_table(index=["participant_id", "song_id"], columns="method", values="rank")
        blocks = [own.to_numpy() for _, own in wide.groupby(level=0)]  # (songs, methods) each
        pairs = list(combinations(range(wide.shape[1]), 2))
        first, second = np.array(pairs).T
        who = rng.integers(len(blocks), size=(studies, participants))
        means = np.empty((studies, participants, wide.shape[1]))
        for k, block in enumerate(blocks):
            songs = rng.integers(len(block), size=(int((who == k).sum()), len(block)))
            means[who == k] = block[songs].mean(1)
        difference = means[..., first] - means[..., second]  # (studies, participants, pairs)
        truth = mean_ranks(rankings, dimension).mean().to_numpy()
        towards = np.sign(truth[first] - truth[second])
        with np.errstate(divide="ignore", invalid="ignore"):
            t = difference.mean(1) / (difference.std(1, ddof=1) / np.sqrt(participants))
        p = np.nan_to_num(2 * stats.t.sf(np.abs(t), participants - 1), nan=1.0)  # nobody differs: nothing is found
        order = p.argsort(1)
        passed = np.take_along_axis(p, order, 1) <= LEVEL / np.arange(len(pairs), 0, -1)
        found = np.zeros_like(p)
        np.put_along_axis(found, order, np.logical_and.accumulate(passed, 1), 1)
        found = (found * (np.sign(difference.mean(1)) == towards)).mean(0)
        names = list(wide.columns)
        out[dimension] = [{"a": names[a], "b": names[b], "power": float(share)} for (a, b), share in zip(pairs, found, strict=True)]
    return out


def tables(mixed: Mapping[str, Any], order: Mapping[str, Any] | None, power: Mapping[int, Mapping[str, Any]]) -> list[Table]:
    """What this module finds, for the terminal; ``power`` by number of participants."""
    out = []
    for dimension in DIMENSIONS:
        columns = ("pair", "difference", "SE", "Holm", "", "SD participants", "SD songs")
        table = Table(*columns, *(f"power n={n}" for n in power), title=f"{dimension}: mixed model")
        for k, pair in enumerate(mixed[dimension]):
            powers = (f"{found[dimension][k]['power']:.2f}" for found in power.values())
            table.add_row(*(cell.format(**pair) for cell in _CELLS), *powers)
        out.append(table)
        if order:
            shown, position = order[dimension]["shown"], order[dimension]["position"]
            table = Table("order", "effect", "p", title=f"{dimension}: order")
            told = ", ".join(f"{name} {rank:.2f}" for name, rank in shown["mean_rank"].items())
            table.add_row("place on the screen", f"mean rank {told}", f"{shown['p']:.2g}")
            for name, cell in position.items():
                effect, p = f"{cell['slope']:+.3f} ranks", f"{cell['p_holm']:.2g} (Holm)"
                table.add_row(f"from song to song: {name}", effect, p)
            out.append(table)
    return out
