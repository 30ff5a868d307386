"""What the arena's file says to readers."""

from dsaml.config import DIMENSIONS
from dsaml.experiment.arena_rows import FROZEN, SMALL
from dsaml.experiment.arena_words import beliefs, errors_of, harm, parts_differ, uncertainty_of, verdicts, ways_to_train


def told(validation: float, covered: float | None = None, rank: float = 0.0) -> dict:
    about = {"chosen": {"30 s": {"settings": {}, "validation_ccc": validation}}}
    if covered is not None:
        shares = {d: {"0.5": 0.5, "0.9": covered} for d in DIMENSIONS}
        about["uncertainty"] = {"coverage": shares, **{key: dict.fromkeys(DIMENSIONS, rank) for key in ("rank", "rank_song")}}
        both = dict.fromkeys(DIMENSIONS, rank)
        about["errors"] = {"shares": {"the listener": both}, "rank_if_known": {"the listener": both}}
        about["errors"]["rmse"] = {"validation": dict.fromkeys(DIMENSIONS, 0.2), "test": dict.fromkeys(DIMENSIONS, 0.3)}
    return about


PAYLOAD = {
    "heard": {"A | x": SMALL, "B | x": SMALL, "B | z": FROZEN},
    "method": {"A | x": "A", "B | x": "B", "B | z": "B"},
    "gap_closed": {
        "A | x": {"arousal": 0.9, "valence": 0.9},
        "B | x": {"arousal": 0.5, "valence": 0.46},
        "B | z": {"arousal": 0.4, "valence": 0.34},
    },
    "about": {
        "A | x": {"0": told(0.1), "1": told(0.2)},
        "B | x": {"0": told(0.7, 0.84, 0.3), "1": told(0.6, 0.88, 0.5)},
        "B | z": {"0": told(0.5, 0.84, 0.3), "1": told(0.5, 0.84, 0.3)},
    },
    "searched": {"B | x": [[{"learning_rate": 0.1}, 0.2], [{"learning_rate": 0.3}, 0.4]]},
}


def test_rows_are_chosen_by_validation_and_judged_by_the_test():
    """A closes most of the gap on test listeners, but was not the best on validation listeners."""
    found = verdicts(PAYLOAD)
    assert found.row.tolist()[:2] == [f"B, {SMALL}", f"B, {FROZEN}"]
    assert found[""].tolist() == ["shown", "not shown", "shown", "shown", "not shown", "not shown"]
    assert found["arousal / valence"][1] == "40% / 34%"


def test_uncertainty_is_the_mean_of_the_training_seeds():
    found = uncertainty_of(PAYLOAD)
    assert set(found) == {"B | x", "B | z"}
    assert round(found["B | x"]["rank"]["valence"], 6) == 0.4
    assert round(found["B | x"]["coverage"]["arousal"]["0.9"], 6) == 0.86


def test_the_best_way_to_train_is_told_with_the_worst():
    line = ways_to_train(PAYLOAD).iloc[0]
    assert (line["with"], line.worst, line.best, line.tries) == ("learning rate 0.3", "0.200", "0.400", 2)


def test_harm_is_an_interval_that_lies_above_zero():
    def cells(arousal: tuple[float, float], valence: tuple[float, float]) -> dict:
        return {d: {"low": low, "high": high} for d, (low, high) in zip(DIMENSIONS, (arousal, valence), strict=True)}

    above = {"A | x": cells((0.1, 0.2), (-0.1, 0.1)), "B | x": cells((-0.2, -0.1), (0.01, 0.1)), "B | z": cells((-1, 1), (-1, 1))}
    found = harm(PAYLOAD | {"rmse_above": above})
    assert found["worse"] == f"A on {SMALL} (arousal); B on {SMALL} (valence)"
    assert found["better"] == f"B on {SMALL} (arousal)"
    assert harm(PAYLOAD | {"rmse_above": {}})["worse"] == "none"


def test_beliefs_are_those_of_rows_that_have_one():
    about = {"A | x": {"0": {"belief": [1.0, 0.5]}, "1": {"belief": [0.0, 0.5]}}, "B | x": {"0": {}}}
    found = beliefs({"here": PAYLOAD | {"about": about}})
    assert found.to_dict("records") == [{"hears": SMALL, "here: arousal / valence": "0.50 / 0.50"}]


def test_what_errors_depend_on_is_the_mean_of_the_training_seeds():
    line = errors_of(PAYLOAD).iloc[0]
    assert line["share: the listener"] == "40% / 40%" and line["rank, knowing other errors of the listener"] == "0.40 / 0.40"
    assert line["rank, from one song"] == "0.40 / 0.40"
    line = parts_differ(PAYLOAD).iloc[0]
    assert (line["RMSE, test"], line["test / validation"], line["covered of 90 %"]) == ("0.300 / 0.300", "1.50 / 1.50", "86% / 86%")


def test_a_variance_that_is_the_same_for_everybody_ranks_nobody():
    line = errors_of(PAYLOAD | {"about": {"B | x": {"0": told(0.5, 0.9, None)}}}).iloc[0]
    assert line["rank, from one song"] == "nan / nan"
