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
from dsaml.experiment.results import plain, write_result
from dsaml.study import analysis, answers


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
    return pd.DataFrame(rows, columns=list(answers.COLUMNS))


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
    found, table = analysis.analyse(rankings), analysis.mean_ranks(rankings, "arousal")
    part = found["arousal"]
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
    found = analysis.analyse(pd.DataFrame(rows, columns=list(answers.COLUMNS)))
    assert found["valence"]["friedman"]["kendall_w"] == pytest.approx(1.0)
    assert found["valence"]["methods"]["A"]["mean_rank"] == 1.0


def test_the_unit_is_the_participant():
    """Repeating every song leaves each participant's mean rank, and so every p-value, as it was."""
    once = _rankings()
    twice = pd.concat([once, once.assign(song_id=once.song_id + "-again")])
    assert analysis.analyse(twice)["arousal"]["pairs"] == analysis.analyse(once)["arousal"]["pairs"]


@pytest.mark.parametrize(
    "difference, expected", [([1.0, 2.0, 3.0], 1.0), ([-1.0, -2.0], -1.0), ([0.0, 0.0], 0.0), ([3.0, -1.0, -2.0], 0.0)]
)
def test_rank_biserial_by_hand(difference, expected):
    assert analysis.rank_biserial(np.array(difference)) == pytest.approx(expected)


@pytest.mark.parametrize("p, mark", [(0.0009, "***"), (0.001, "**"), (0.009, "**"), (0.04, "*"), (0.05, "n.s.")])
def test_stars(p, mark):
    assert analysis.stars(p) == mark


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), noise=st.floats(0, 2))
def test_simulated_ranks_are_permutations(seed, noise):
    rankings = answers.simulate(_curves(seed), noise, seed)
    for _, group in rankings.groupby(["participant_id", "song_id", "dimension"]):
        assert sorted(group["rank"]) == [1, 2, 3]


def test_without_noise_the_own_curve_is_first_and_with_much_noise_nothing_is():
    exact = answers.simulate(_curves(), noise=0.0)
    assert (exact[exact.method == "same"]["rank"] == 1).all() and (exact[exact.method == "far"]["rank"] == 3).all()
    blurred = answers.simulate(_curves(), noise=1e6)
    assert blurred[blurred.method == "same"]["rank"].nunique() > 1


def test_order_of_rows_does_not_matter():
    rankings = _rankings()
    assert analysis.analyse(rankings.sample(frac=1, random_state=1)) == analysis.analyse(rankings)


def test_power_grows_with_participants_and_meets_its_own_smallest_difference():
    points = analysis.power_curve(0.3, 0.6, [5, 10, 22, 50])
    assert list(points.values()) == sorted(points.values())
    smallest = analysis.detectable_difference(0.6, 22)
    assert analysis.power_curve(smallest, 0.6, [22])[22] == pytest.approx(0.8, abs=1e-3)


def test_answers_survive_a_round_trip(tmp_path):
    rankings = _rankings()
    answers.write_rankings(tmp_path / "r.csv", rankings)
    pd.testing.assert_frame_equal(answers.read_rankings(tmp_path / "r.csv"), rankings)
    assert len(answers.read_rankings(answers.write_template(tmp_path / "t.csv"))) == 8


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
        answers.read_rankings(tmp_path / "bad.csv")
    assert words in str(caught.value) and "bad.csv" in str(caught.value)


def test_missing_files_and_too_few_people_get_one_sentence(tmp_path):
    with pytest.raises(DsamlError, match="no such file"):
        answers.read_rankings(tmp_path / "none.csv")
    with pytest.raises(DsamlError, match="no such result"):
        answers.read_curves(tmp_path / "none.json")
    write_result(tmp_path / "bad.json", {"participants": 3}, {})
    with pytest.raises(DsamlError, match="not a file of study curves"):
        answers.read_curves(tmp_path / "bad.json")
    with pytest.raises(DsamlError, match="need at least 3"):
        analysis.analyse(_rankings(participants=2))


def _ordered(participants: int = 8, songs: int = 6, favourite: float = 1.0, screen: float = 0.0, late: float = 0.0):
    """Answers with their order: A is better by ``favourite``, the first on the screen by ``screen``, A by ``late`` per song."""
    rng, rows = np.random.default_rng(0), []
    for person in range(participants):
        for position, song in enumerate(rng.permutation(songs), 1):
            for dimension in DIMENSIONS:
                place = rng.permutation(4)
                quality = (
                    rng.normal(0, 0.7, 4) - np.array([favourite + late * position, 0, 0, 0]) - screen * (place == 0)
                )
                for rank, m in enumerate(np.argsort(quality), 1):
                    rows.append((f"p{person}", f"s{song}", dimension, "ABCD"[m], rank, position, "ABCD"[place[m]]))
    return pd.DataFrame(rows, columns=[*answers.COLUMNS, *answers.ORDER])


def test_a_mixed_model_agrees_with_the_means_and_with_its_recipe():
    """Balanced answers: the estimate is the mean of means; the spread of songs and participants is found where it is put."""
    rng = np.random.default_rng(1)
    people, songs = rng.normal(0, 1.0, 20), rng.normal(0, 0.6, 12)
    index = pd.MultiIndex.from_product([range(20), range(12)], names=["participant_id", "song_id"])
    values = (0.5 + people[:, None] + songs + rng.normal(0, 0.5, (20, 12))).ravel()
    found = analysis._crossed(pd.Series(values, index))
    assert found["difference"] == pytest.approx(values.mean(), abs=1e-6)
    assert found["sd_participant"] == pytest.approx(people.std(ddof=1), abs=0.1)
    assert found["sd_song"] == pytest.approx(songs.std(ddof=1), abs=0.1)
    assert found["sd_rest"] == pytest.approx(0.5, abs=0.05)
    # balanced: the variance of the mean has a closed form
    expected = np.sqrt(found["sd_participant"] ** 2 / 20 + found["sd_song"] ** 2 / 12 + found["sd_rest"] ** 2 / 240)
    assert found["se"] == pytest.approx(expected, rel=0.02)


def test_a_mixed_model_of_answers_that_all_agree_says_so_without_a_test():
    rows = [(f"p{p}", s, d, m, r) for p in range(4) for s in "xy" for d in DIMENSIONS for r, m in enumerate("ABC", 1)]
    pair = analysis.mixed_model(pd.DataFrame(rows, columns=list(answers.COLUMNS)))["arousal"][0]
    assert pair["difference"] == -1 and np.isnan(pair["p"]) and pair["stars"] == "–"
    assert plain({"x": [pair["p"], 1]}) == {"x": [None, 1]}


def test_order_effects_are_found_where_they_are_and_only_there():
    none = analysis.order_effects(_ordered(participants=20))["arousal"]
    assert none["shown"]["p"] > 0.01 and all(cell["p_holm"] > 0.01 for cell in none["position"].values())
    screen = analysis.order_effects(_ordered(participants=20, screen=1.0))["valence"]["shown"]
    assert screen["p"] < 0.001 and min(screen["mean_rank"], key=screen["mean_rank"].get) == "A"
    late = analysis.order_effects(_ordered(participants=20, favourite=-1.0, late=0.5))["arousal"]["position"]
    assert late["A"]["slope"] < 0 and late["A"]["p_holm"] < 0.001
    assert analysis.order_effects(_rankings()) is None


def test_simulated_power_is_the_formulas_where_the_formula_holds():
    """One pair, normal differences of participants, one song each: the paired t-test's own power."""
    rng = np.random.default_rng(2)
    better = rng.normal(0.5, 1.0, 400)
    rows = [
        (f"p{p}", "s", d, m, v) for p, x in enumerate(better) for d in DIMENSIONS for m, v in (("A", 0.0), ("B", x))
    ]
    table = pd.DataFrame(rows, columns=list(answers.COLUMNS))
    for n in (10, 30):
        found = analysis.simulated_power(table, n, studies=2000)["arousal"][0]["power"]
        assert found == pytest.approx(analysis.power_curve(better.mean(), better.std(), [n])[n], abs=0.05)


def test_simulated_power_grows_and_is_small_where_there_is_no_difference():
    table = _ordered(participants=15)
    small, large = (analysis.simulated_power(table, n, studies=300)["arousal"] for n in (4, 25))
    by_pair = {(p["a"], p["b"]): (p["power"], q["power"]) for p, q in zip(small, large, strict=True)}
    assert by_pair["A", "B"][0] < by_pair["A", "B"][1] and by_pair["A", "B"][1] > 0.9
    assert by_pair["B", "C"][1] < 0.5


def test_positions_come_back_from_a_file_or_are_refused(tmp_path):
    table = _ordered(participants=3)
    answers.write_rankings(tmp_path / "r.csv", table)
    pd.testing.assert_frame_equal(answers.read_rankings(tmp_path / "r.csv"), table)
    answers.write_rankings(tmp_path / "r.csv", table.astype(str).assign(position="first"))
    with pytest.raises(DsamlError, match="position 'first' is no whole number"):
        answers.read_rankings(tmp_path / "r.csv")
