"""The committed reference run: what of it can be computed in seconds is computed again, and nothing has drifted."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dsaml.arena.methods import METHODS
from dsaml.audio.song import Song
from dsaml.colab import READ, REFERENCE
from dsaml.config import DIMENSIONS, LABEL_START, METRICS, STEP_SECONDS
from dsaml.data.annotations import MEAN, Annotation
from dsaml.data.base import PARTS, Dataset, Split
from dsaml.data.synthetic.population import (
    TWO_SIGNS,
    hear_and_rate,
    make_controls,
    make_listeners,
    make_plans,
    true_curve,
)
from dsaml.evaluate import bootstrap, protocols, structure
from dsaml.experiment.arena_rows import FROZEN, SMALL
from dsaml.experiment.claims import CLAIMS, NOT_RUN
from dsaml.experiment.reproduce import tables_of_scores
from dsaml.experiment.results import read_result
from dsaml.experiment.workflow import terminal_table
from dsaml.learn.batches import SongStore

RUN = REFERENCE / "demo"


def _labels() -> Dataset:
    """The embedded corpus without its sound, its labels rounded as in its files."""
    plans = make_plans(TWO_SIGNS)
    mean, tracks, oracle = {}, {}, {MEAN: {}}
    for plan in plans:
        song = str(plan.song_id)

        def track(who: str, values: np.ndarray, song: str = song) -> Annotation:
            times = LABEL_START + STEP_SECONDS * np.arange(len(values))
            return Annotation(song, who, times, values.round(6))

        heard, rated = hear_and_rate(TWO_SIGNS, plan)
        mean[song] = track(MEAN, np.mean(list(rated.values()), 0))
        for who in rated:
            tracks.setdefault(who, {})[song] = track(who, rated[who])
            oracle.setdefault(who, {})[song] = track(who, heard[who])
        world = make_controls(TWO_SIGNS, plan.song_id, plan.steps, plan.flat)
        oracle[MEAN][song] = track(MEAN, true_curve(TWO_SIGNS, *world, None))
    songs = {part: tuple(str(p.song_id) for p in plans if p.part == part) for part in PARTS}
    people = {part: tuple(x.id for x in make_listeners(TWO_SIGNS, part)) for part in PARTS}
    listed = {song: Song(song, None) for song in mean}
    return Dataset("synthetic", False, Path("memory"), listed, mean, tracks, Split(songs, people), oracle=oracle)


@pytest.fixture(scope="module")
def store() -> SongStore:
    return SongStore(_labels(), {})


@pytest.mark.parametrize("protocol, block", [("cross-song", "table4"), ("prefix", "table4-prefix")])
def test_floors_and_true_curves_are_those_of_the_run(store, protocol, block):
    run = read_result(RUN / "tables-synthetic.json")["blocks"][block]["rows"]
    rows = bootstrap.summarize(bootstrap.CrossedScores(pd.concat(protocols.fixed_rows(store, protocol))))
    assert len(rows) == 6
    for name, row in rows.items():
        for d in DIMENSIONS:
            for metric in METRICS:
                for key in ("mean", "low", "high"):
                    assert row[d][metric][key] == pytest.approx(run[name][d][metric][key], abs=2e-5), (name, d, metric)


def test_the_structure_of_the_labels_is_that_of_the_run():
    numbers = read_result(RUN / "numbers.json")
    for key, value in structure.of_corpus(TWO_SIGNS).items():
        assert numbers[f"structure.default.{key}"] == value


def test_every_table_of_scores_can_be_printed():
    for name in ("synthetic", "stress"):
        tables = tables_of_scores(RUN, name)
        assert f"table4 ({name})" in tables and not any(title.startswith("figure4") for title in tables)
        for title, block in tables.items():
            assert terminal_table(block, title).row_count == len(block["rows"])


def test_every_claim_but_the_one_that_needs_people_has_a_verdict():
    judged = read_result(RUN / "claims-synthetic.json")["claims"]
    assert [c["id"] for c in judged] == [c.id for c in CLAIMS]
    assert [c["id"] for c in judged if c["verdict"] == NOT_RUN] == [c.id for c in CLAIMS if c.needs]


def test_the_run_is_stamped_with_one_commit_and_three_seeds():
    files = [file for file in RUN.glob("*.json") if not file.stem.startswith("arena-")]  # what reproduce all writes
    stamps = {file.stem: read_result(file)["provenance"] for file in files}
    assert set(READ) < set(stamps)
    assert len({stamp["commit"] for stamp in stamps.values()}) == 1
    for name, stamp in stamps.items():
        assert stamp["commit"] and stamp["dirty"] is False and stamp["real"] is False
        one = name in set(READ) - {"numbers", "pdmer"}  # the exhibits show one training
        assert stamp["seeds"] == ([0] if one else [0, 1, 2]), name


def test_the_arenas_floors_and_true_curves_are_those_of_the_labels(store):
    """The arena has a command and a stamp of its own; what it compares with is computed again here."""
    run = read_result(RUN / "arena-synthetic.json")
    assert run["provenance"]["seeds"] == [0, 1, 2] and run["provenance"]["dirty"] is False
    rows = bootstrap.summarize(bootstrap.CrossedScores(pd.concat(protocols.fixed_rows(store, "cross-song"))))
    for name, row in rows.items():
        for d in DIMENSIONS:
            assert row[d]["ccc"]["mean"] == pytest.approx(run["rows"][name][d]["ccc"]["mean"], abs=2e-5), (name, d)
    for heard in (SMALL, FROZEN):
        assert {run["method"][name] for name in run["rows"] if run["heard"].get(name) == heard} == set(METHODS)
    best = run["best"]
    assert all(run["gap_closed"][best][d] > run["gap_closed"][run["published"]][d] for d in DIMENSIONS)
