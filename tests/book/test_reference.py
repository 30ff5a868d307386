"""The reference run: what the pages show of it, and how a build's own results compare."""

import numpy as np
import pytest

from book.builder import reference
from dsaml.errors import DsamlError
from dsaml.experiment.results import read_result, write_result

STAMP = {"real": False, "dataset": "synthetic", "encoder": "mel", "profile": "demo", "configuration": "0", "device": "cpu"}
STAMP |= {"seconds": 1.0, "packages": {"torch": "2"}, "commit": "abc", "dirty": False}
RUN = {"arousal": [0.50, 0.52, 0.54], "valence": [0.40, 0.44, 0.42]}


def _write(folder, name, by_seed, seeds):
    payload = {"blocks": {"table4": {"by_seed": {"MAML": by_seed}}, "figure4": {}}, "who": folder.name}
    write_result(folder / name, payload, STAMP | {"seeds": list(range(seeds))})


def test_the_run_with_more_seeds_is_shown_and_ones_own_where_both_have_as_many(tmp_path):
    mine, run = tmp_path / "mine", tmp_path / "run"
    for folder, name, seeds in (
        (run, "tables-synthetic.json", 3),
        (mine, "tables-synthetic.json", 1),
        (run, "claims-synthetic.json", 3),
        (mine, "claims-synthetic.json", 3),
        (run, "numbers.json", 3),
        (mine, "tables-deam.json", 1),
        (mine, "curves.json", 1),
    ):
        _write(folder, name, RUN, seeds)
    shown = reference.choose(mine, run, tmp_path / "shown")
    assert {file.name: read_result(file)["who"] for file in shown.iterdir()} == {
        "tables-synthetic.json": "run",
        "claims-synthetic.json": "mine",
        "numbers.json": "run",
        "tables-deam.json": "mine",
    }


def test_a_score_outside_of_what_another_seed_could_give_is_red(tmp_path):
    _write(tmp_path / "run", reference.LIVE, RUN, 3)
    _write(tmp_path / "mine", reference.LIVE, {"arousal": [0.55], "valence": [0.43]}, 1)
    said = reference.comparison(tmp_path / "mine", tmp_path / "run")
    assert "2 of 2 scores lie where another" in said and "outside" not in said
    _write(tmp_path / "mine", reference.LIVE, {"arousal": [0.70], "valence": [0.43]}, 1)
    said = reference.comparison(tmp_path / "mine", tmp_path / "run")
    assert "**1 of 2 scores lie outside.**" in said and said.count("color:#b00020") == 2


def test_without_results_it_says_what_is_missing(tmp_path):
    assert "tables-synthetic.json is missing" in reference.comparison(tmp_path, tmp_path)


def test_the_interval_of_one_more_seed_covers_one_more_seed():
    rng = np.random.default_rng(0)
    draws = rng.normal(0.5, 0.02, (4000, 4))
    inside = [low <= new <= high for *run, new in draws.tolist() for low, high in [reference.expected(run)]]
    assert 0.94 < np.mean(inside) < 0.96
    with pytest.raises(DsamlError, match="one training seed"):
        reference.expected([0.5])
