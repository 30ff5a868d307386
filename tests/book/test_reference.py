"""The reference run: what the pages show of it, and how a build's own results compare."""

import numpy as np
import pytest
from typer.testing import CliRunner

from book.builder import reference
from dsaml.cli.main import app
from dsaml.errors import DsamlError
from dsaml.experiment.results import read_result, write_result

STAMP = {"real": False, "dataset": "synthetic", "encoder": "mel", "profile": "demo", "configuration": "0", "device": "cpu"}
STAMP |= {"seconds": 1.0, "packages": {"torch": "2"}, "commit": "abc", "dirty": False}
RUN = {"arousal": [0.50, 0.52, 0.54], "valence": [0.40, 0.44, 0.42]}


def _write(folder, name, by_seed, seeds, who=""):
    payload = {"blocks": {"table4": {"by_seed": {"MAML": by_seed}}, "figure4": {}}, "who": who}
    write_result(folder / name, payload, STAMP | {"seeds": list(range(seeds))})


def test_the_run_with_more_seeds_is_shown_and_ones_own_where_both_have_as_many(tmp_path):
    mine, run = tmp_path / "mine", tmp_path / "run"
    for folder, name, seeds in (
        (run / "demo", "tables-synthetic.json", 3),
        (mine / "demo", "tables-synthetic.json", 1),
        (run / "demo", "claims-synthetic.json", 3),
        (mine / "demo", "claims-synthetic.json", 3),
        (run / "demo", "numbers.json", 3),
        (mine / "demo", "curves.json", 1),
    ):
        _write(folder, name, RUN, seeds, folder.parent.name)
    (shown,) = reference.choose("demo", mine, run, tmp_path / "shown")
    assert {file.name: read_result(file)["who"] for file in shown.iterdir()} == {
        "tables-synthetic.json": "run",
        "claims-synthetic.json": "mine",
        "numbers.json": "run",
    }


def test_every_run_is_shown_and_the_books_own_first(tmp_path):
    for folder, name in (
        ("results/demo", "tables-synthetic.json"),
        ("results/a-run", "tables-deam.json"),
        ("results/grid", "deam-DEAM-demo-pdmer-0.json"),
        ("reference/long-ago", "claims-pmemo.json"),
    ):
        _write(tmp_path / folder, name, RUN, 1)
    runs = reference.choose("demo", tmp_path / "results", tmp_path / "reference", tmp_path / "shown")
    assert [run.name for run in runs] == ["demo", "a-run", "long-ago"]
    (file, document), *others = reference.found(runs, "tables-*.json")
    assert (file.parent.name, [other.parent.name for other, _ in others]) == ("demo", ["a-run"])
    own, other = reference.title(document, "demo"), reference.title(others[0][1], "a-run")
    assert own == "**synthetic** (synthetic data), profile `demo`, encoder `mel`, 1 training seed"
    assert "profile `demo` in `results/a-run`, encoder" in other
    assert reference.choose("none", tmp_path / "nowhere", tmp_path / "nowhere", tmp_path / "shown") == [tmp_path / "shown/none"]


@pytest.mark.parametrize(("arousal", "valence", "outside", "red"), [(0.55, 0.43, 0, 0), (0.70, 0.43, 1, 0), (0.70, 0.9, 2, 1)])
def test_more_scores_outside_than_chance_leaves_are_red(tmp_path, arousal, valence, outside, red):
    _write(tmp_path / "run", reference.LIVE, RUN, 3)
    _write(tmp_path / "mine", reference.LIVE, {"arousal": [arousal], "valence": [valence]}, 1)
    said = reference.comparison(tmp_path / "mine", tmp_path / "run")
    assert f"{2 - outside} of 2 scores lie where" in said and "up to 1 outside" in said
    assert said.count("**outside**") == outside and said.count("color:#b00020") == red


def test_without_results_it_says_what_is_missing(tmp_path):
    assert "tables-synthetic.json is missing" in reference.comparison(tmp_path, tmp_path)


def test_the_interval_of_one_more_seed_covers_one_more_seed():
    rng = np.random.default_rng(0)
    draws = rng.normal(0.5, 0.02, (4000, 4))
    inside = [low <= new <= high for *run, new in draws.tolist() for low, high in [reference.expected(run)]]
    assert 0.94 < np.mean(inside) < 0.96
    with pytest.raises(DsamlError, match="one training seed"):
        reference.expected([0.5])


def test_reproduce_makes_its_results_the_reference_run_where_it_is_asked(tmp_path, monkeypatch):
    """And leaves the one that is there where something is missing."""
    monkeypatch.setattr("dsaml.experiment.reproduce.reproduce", lambda *_: {})
    monkeypatch.setattr("dsaml.colab.REFERENCE", tmp_path / "reference")
    monkeypatch.setenv("COLUMNS", "200")
    command = ["reproduce", "all", "--results", str(tmp_path / "demo"), "--cache", str(tmp_path / "cache")]
    _write(tmp_path / "demo", reference.LIVE, RUN, 3)
    done = CliRunner().invoke(app, [*command, "--update"])
    assert isinstance(done.exception, DsamlError) and not (tmp_path / "reference").exists()
    for name in reference.READ:
        _write(tmp_path / "demo", f"{name}.json", RUN, 3)
    assert CliRunner().invoke(app, command).exit_code == 0 and not (tmp_path / "reference").exists()
    done = CliRunner().invoke(app, [*command, "--update"])
    assert done.exit_code == 0 and "files in" in done.output
    assert read_result(tmp_path / "reference/demo" / reference.LIVE) == read_result(tmp_path / "demo" / reference.LIVE)
