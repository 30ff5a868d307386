"""The subjective study: known answers, properties, bad answer sheets."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from dsaml.config import DIMENSIONS
from dsaml.errors import DsamlError
from dsaml.experiment.results import write_result
from dsaml.listen import study


def _rankings(participants: int = 8, songs: int = 5, favourite: float = 1.0, seed: int = 0) -> pd.DataFrame:
    """Method A is better by ``favourite`` on average."""
    rng, rows = np.random.default_rng(seed), []
    for person in range(participants):
        for song in range(songs):
            for dimension in DIMENSIONS:
                quality = rng.normal(size=4) - np.array([favourite, 0, 0, 0])
                rows += [
                    (f"p{person}", f"s{song}", dimension, "ABCD"[m], r) for r, m in enumerate(np.argsort(quality), 1)
                ]
    return pd.DataFrame(rows, columns=list(study.COLUMNS))


def _curves(seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    people = []
    for person in range(4):
        songs = []
        for song in range(3):
            truth = rng.uniform(-1, 1, (6, 2))
            methods = {"same": truth.tolist(), "near": (truth + 0.1).tolist(), "far": (truth + 0.7).tolist()}
            songs.append({"song_id": f"s{song}", "truth": truth.tolist(), "methods": methods})
        people.append({"id": f"p{person}", "songs": songs})
    return {"participants": people}


def test_known_statistics():
    rankings = _rankings()
    analysis, table = study.analyse(rankings), study.mean_ranks(rankings, "arousal")
    part = analysis["arousal"]
    assert part["methods"]["A"]["mean_rank"] == pytest.approx(
        rankings.query("dimension == 'arousal' and method == 'A'")["rank"].mean()
    )
    pair = next(p for p in part["pairs"] if (p["a"], p["b"]) == ("A", "C"))
    assert pair["p_t"] == pytest.approx(stats.ttest_rel(table["A"], table["C"]).pvalue)
    assert pair["p_w"] == pytest.approx(stats.wilcoxon(table["A"] - table["C"]).pvalue)
    difference = table["A"] - table["C"]
    assert pair["dz"] == pytest.approx(difference.mean() / difference.std(ddof=1))
    holm = multipletests([p["p_t"] for p in part["pairs"]], method="holm")[1]
    assert [p["p_t_holm"] for p in part["pairs"]] == pytest.approx(list(holm))
    friedman = stats.friedmanchisquare(*(table[m] for m in "ABCD"))
    assert part["friedman"]["chi2"] == pytest.approx(friedman.statistic)
    assert part["friedman"]["kendall_w"] == pytest.approx(friedman.statistic / (8 * 3))


def test_full_agreement_has_a_kendall_w_of_one():
    rows = [(f"p{p}", "s", d, m, r) for p in range(5) for d in DIMENSIONS for r, m in enumerate("ABCD", 1)]
    analysis = study.analyse(pd.DataFrame(rows, columns=list(study.COLUMNS)))
    assert analysis["valence"]["friedman"]["kendall_w"] == pytest.approx(1.0)
    assert analysis["valence"]["methods"]["A"]["mean_rank"] == 1.0


def test_the_unit_is_the_participant():
    """Repeating every song leaves each participant's mean rank, and so every p-value, as it was."""
    once = _rankings()
    twice = pd.concat([once, once.assign(song_id=once.song_id + "-again")])
    assert study.analyse(twice)["arousal"]["pairs"] == study.analyse(once)["arousal"]["pairs"]


@pytest.mark.parametrize(
    "difference, expected", [([1.0, 2.0, 3.0], 1.0), ([-1.0, -2.0], -1.0), ([0.0, 0.0], 0.0), ([3.0, -1.0, -2.0], 0.0)]
)
def test_rank_biserial_by_hand(difference, expected):
    assert study.rank_biserial(np.array(difference)) == pytest.approx(expected)


@pytest.mark.parametrize("p, mark", [(0.0009, "***"), (0.001, "**"), (0.009, "**"), (0.04, "*"), (0.05, "n.s.")])
def test_stars(p, mark):
    assert study.stars(p) == mark


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), noise=st.floats(0, 2))
def test_simulated_ranks_are_permutations(seed, noise):
    rankings = study.simulate(_curves(seed), noise, seed)
    for _, group in rankings.groupby(["participant_id", "song_id", "dimension"]):
        assert sorted(group["rank"]) == [1, 2, 3]


def test_without_noise_the_own_curve_is_first_and_with_much_noise_nothing_is():
    exact = study.simulate(_curves(), noise=0.0)
    assert (exact[exact.method == "same"]["rank"] == 1).all() and (exact[exact.method == "far"]["rank"] == 3).all()
    blurred = study.simulate(_curves(), noise=1e6)
    assert blurred[blurred.method == "same"]["rank"].nunique() > 1


def test_order_of_rows_does_not_matter():
    rankings = _rankings()
    assert study.analyse(rankings.sample(frac=1, random_state=1)) == study.analyse(rankings)


def test_power_grows_with_participants_and_meets_its_own_smallest_difference():
    points = study.power_curve(0.3, 0.6, [5, 10, 22, 50])
    assert list(points.values()) == sorted(points.values())
    smallest = study.detectable_difference(0.6, 22)
    assert study.power_curve(smallest, 0.6, [22])[22] == pytest.approx(0.8, abs=1e-3)


def test_answers_survive_a_round_trip(tmp_path):
    rankings = _rankings()
    study.write_rankings(tmp_path / "r.csv", rankings)
    pd.testing.assert_frame_equal(study.read_rankings(tmp_path / "r.csv"), rankings)
    assert len(study.read_rankings(study.write_template(tmp_path / "t.csv"))) == 8


@pytest.mark.parametrize(
    "damage, words",
    [
        (lambda t: t.drop(columns="rank"), "no column rank"),
        (lambda t: t.assign(dimension="mood"), "line 2: dimension 'mood'"),
        (lambda t: t.assign(rank=["x", *t["rank"][1:]]), "line 2: rank 'x'"),
        (lambda t: t.assign(rank=1), "are not 1 to 4"),
        (lambda t: t.iloc[1:], "but the methods are A, B, C, D"),
        (lambda t: t.iloc[:0], "no answers"),
    ],
)
def test_a_bad_answer_sheet_gets_one_sentence(damage, words, tmp_path):
    damage(_rankings().astype(str)).to_csv(tmp_path / "bad.csv", index=False)
    with pytest.raises(DsamlError) as caught:
        study.read_rankings(tmp_path / "bad.csv")
    assert words in str(caught.value) and "bad.csv" in str(caught.value)


def test_missing_files_and_too_few_people_get_one_sentence(tmp_path):
    with pytest.raises(DsamlError, match="no such file"):
        study.read_rankings(tmp_path / "none.csv")
    with pytest.raises(DsamlError, match="no such result"):
        study.read_curves(tmp_path / "none.json")
    write_result(tmp_path / "bad.json", {"participants": 3}, {})
    with pytest.raises(DsamlError, match="not a file of study curves"):
        study.read_curves(tmp_path / "bad.json")
    with pytest.raises(DsamlError, match="need at least 3"):
        study.analyse(_rankings(participants=2))
