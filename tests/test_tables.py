"""From hand-made predictions through result files to tables and claims; verdicts follow the numbers."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import META, MODEL, make_store

from dsaml import attention, claims, protocols, report, tables
from dsaml import evaluation as ev
from dsaml.annotations import Annotation
from dsaml.baselines import BASELINES, BaselineConfig, make_baseline
from dsaml.batches import SongStore
from dsaml.config import DEMO, PAPER, SupervisedConfig
from dsaml.datasets import Dataset, Song, Split
from dsaml.errors import DsamlError
from dsaml.features import Features
from dsaml.model import DSAML
from dsaml.recipes import (
    ABLATIONS,
    ANNOTATOR_LABELS_LONG,
    MAML_ANNOTATOR,
    MAML_MEAN,
    NON_META,
    NON_META_LONG,
    RELEASED_POSITIONS,
    SUPERVISED,
    digest,
    passes,
    recipes,
)
from dsaml.results import provenance, write_result
from dsaml.training import cross_song_tasks, train_maml, train_supervised

PUBLISHED = json.loads((Path(__file__).parents[1] / "data" / "paper_tables.json").read_text())


def _predicted(quality: dict[str, float], protocol: str = "cross-song", seeds: int = 2) -> pd.DataFrame:
    """A scores table of predictions made by hand: the truth times ``quality``, with a little noise per song."""
    store, parts = make_store(), []
    tasks = cross_song_tasks(store, "test", 2)
    for method, share in quality.items():
        for seed in range(seeds):
            rng = np.random.default_rng(seed)

            def predict(wanted, share=share, rng=rng):
                return [share * y + rng.normal(0, 0.01, y.shape) for y in ev.truth(store, wanted)]

            table = ev.score_tasks(predict, store, tasks, method, seed)
            parts.append(table.assign(protocol=protocol))
    return pd.concat(parts, ignore_index=True)


GOOD = {MAML_ANNOTATOR: 1.0, MAML_MEAN: 0.5, NON_META: 0.3, "population oracle": 0.4}


def test_hand_made_predictions_reach_table_and_claims_with_the_known_answer(tmp_path):
    blocks = tables.payload_of(_predicted(GOOD), frozenset())
    row = blocks["table4"]["rows"][MAML_MEAN]["arousal"]["ccc"]
    store = make_store()
    songs = [
        store.track(who, song).values[:, 0]
        for who in ("test-0", "test-1")
        for song in store.dataset.split.songs["test"]
    ]
    known = [
        2 * 0.5 * y.var() / (y.var() + 0.25 * y.var() + (0.5 * y.mean()) ** 2) for y in songs
    ]  # CCC of y / 2 and y
    assert row["mean"] == pytest.approx(np.mean(known), abs=0.02)
    stamp = provenance(DEMO, None, seeds=[0, 1], seconds=0, real=False)
    gap = {"arousal": 0.25, "valence": 0.5}
    write_result(tmp_path / "tables-synthetic.json", {"blocks": blocks, "gap_closed": gap}, stamp)
    write_result(tmp_path / "claims-synthetic.json", {"claims": claims.judge_all(blocks)}, stamp)
    text = report.tables_text("table4", tmp_path, PUBLISHED, tmp_path / "figures")
    line = next(line for line in text.splitlines() if line.startswith("| Ours (trained without the personalized"))
    assert (
        MAML_MEAN in line and "0.357\u00a0/\u00a00.080<br>0.236\u00a0/\u00a00.256" in line
    )  # the paper's row of Table 4
    assert report.interval(row) in line and f"*{MAML_ANNOTATOR}* goes 25 % in arousal and 50 % in valence" in text
    assert "not run here: `reproduce table4`" in text and "On DEAM: not run: needs DEAM." in text
    assert "cannot be run" in text
    said = report.claims_text("synthetic", tmp_path, tmp_path / "figures")
    verdicts, numbers = said.split(":::{dropdown}")
    lines = {line.split(" | ")[0].strip("| "): line for line in verdicts.splitlines() if line.startswith("| C")}
    assert "**holds**" in lines["C11"] and "not run" in lines["C2"] and "answers of people" in lines["C15"]
    cells = blocks["table4"]["differences"][f"{MAML_ANNOTATOR} | {MAML_MEAN}"]
    deciding = min(cells.values(), key=lambda cell: cell["low"])
    assert report.difference(deciding) in lines["C11"]
    assert all(report.difference(cell) in numbers for cell in cells.values())
    for page, name in ((text, "table4-tables-synthetic.svg"), (said, "claims-synthetic.svg")):
        assert f"figures/{name}" in page and ":alt: " in page
        assert (tmp_path / "figures" / name).read_text(encoding="utf-8").count("<path") > 20
    assert "Not run" in report.claims_text("deam", tmp_path, tmp_path / "figures")


@pytest.mark.filterwarnings("ignore:invalid value")  # two rows that are the same have no effect size
def test_a_claim_flips_with_the_numbers():
    found = []
    for share in (0.5, 1.0, 1.6):
        blocks = tables.payload_of(_predicted(GOOD | {MAML_ANNOTATOR: 1.0, MAML_MEAN: share}), frozenset())
        verdicts = {claim["id"]: claim["verdict"] for claim in claims.judge_all(blocks)}
        found.append(verdicts["C11"])
    swapped = GOOD | {MAML_ANNOTATOR: 0.5, MAML_MEAN: 1.0}
    blocks = tables.payload_of(_predicted(swapped), frozenset())
    verdicts = {claim["id"]: claim["verdict"] for claim in claims.judge_all(blocks)}
    assert found[0] == claims.HOLDS and found[1] == claims.UNDECIDED and verdicts["C11"] == claims.FAILS


@pytest.mark.parametrize(
    "cells, verdict",
    [
        ([(0.1, 0.2), (0.01, 0.3)], claims.HOLDS),
        ([(0.1, 0.2), (-0.01, 0.3)], claims.UNDECIDED),
        ([(0.1, 0.2), (-0.3, -0.1)], claims.FAILS),
        ([(0.1, 0.2), None], claims.NOT_RUN),
        ([], claims.NOT_RUN),
    ],
)
def test_the_rule_of_the_verdict(cells, verdict):
    assert claims.verdict([c and {"mean": 0, "low": c[0], "high": c[1]} for c in cells]) == verdict


def test_every_row_of_the_paper_has_its_place():
    for block in tables.BLOCKS:
        for row in block.rows:
            assert report.paper_cells(PUBLISHED[block.table], row, "deam") != "not in the paper", (block.name, row)
        assert len(block.rows) == len(PUBLISHED[block.table]["rows"])


def test_every_claim_compares_rows_that_a_table_has():
    known = {
        block.name: {*block.rows.values(), *block.extra, *tables.ORACLES, *tables.FLOORS} for block in tables.BLOCKS
    } | {attention.BLOCK: set(attention.METHODS)}
    for claim in claims.CLAIMS:
        for comparison in claim.comparisons:
            assert {comparison.better, comparison.worse} <= known[comparison.block], claim.id


def test_jobs_are_what_the_tables_need():
    every = recipes(DEMO)
    jobs = tables.jobs_of(["table1", "table2", "table3", "table4"], range(3))
    assert {name for _, name, _ in jobs} <= set(every)
    assert ("dmer", SUPERVISED, 2) in jobs and ("pdmer", "CRNN, MAML", 2) in jobs
    assert len(jobs) == len(set(jobs))
    assert {name for _, name, _ in tables.jobs_of(["table3"], [0])} == {SUPERVISED, *ABLATIONS, RELEASED_POSITIONS}


@pytest.mark.parametrize("profile", [DEMO, PAPER], ids=lambda profile: profile.name)
def test_every_row_of_a_table_is_trained(profile):
    every = recipes(profile)
    rows = {name for _, name, _ in tables.jobs_of(["table1", "table2", "table3", "table4"], [0])}
    assert all(every[name].training is not None for name in rows)
    first = every[SUPERVISED].training
    assert all(every[name].training == first for name in ABLATIONS)  # an ablation differs in the model alone


@pytest.mark.parametrize("profile", [DEMO, PAPER], ids=lambda profile: profile.name)
def test_the_long_non_meta_models_make_as_many_song_passes_as_maml(profile):
    every = recipes(profile)
    wanted = passes(every[MAML_ANNOTATOR].training)
    for name in (NON_META_LONG, ANNOTATOR_LABELS_LONG):
        assert 0 <= wanted - passes(every[name].training) < every[name].training.batch_size
        assert every[name].training.patience == 0  # they do not stop before
        assert every[name].start == every[MAML_ANNOTATOR].start
        assert every[name].training.train_adapter == every[MAML_ANNOTATOR].training.train_adapter
    assert passes(SupervisedConfig(batch_size=4), 3) == 12
    assert passes(replace(META, tasks_per_step=3, inner_steps=2, support_songs=1, query_songs=3), 10) == 150


def test_recipes_know_what_they_start_from():
    demo, paper = recipes(DEMO), recipes(PAPER)
    assert demo[MAML_ANNOTATOR].start == SUPERVISED and paper[MAML_ANNOTATOR].start is None
    assert demo["CRNN, MAML"].start == "CRNN"
    assert len({digest(demo, name) for name in demo}) == len(demo)
    assert digest(demo, MAML_MEAN) != digest(paper, MAML_MEAN)


SMALL = {"width": 0.25, "slice_shape": (13, 64), "samples": 1600}


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_take_dsamls_calls(name):
    config = BaselineConfig(name, **SMALL)
    torch.manual_seed(0)
    model = make_baseline(config).eval()
    x = torch.randn(2, 7, 1600) if config.raw else torch.randn(2, 7, 13, 64)
    output = model(x, torch.randn(2, 1, 5))
    assert output.prediction.shape == (2, 7, 2) and output.attention_local is None
    alone = model(x[1:]).prediction
    torch.testing.assert_close(output.prediction[1:], alone, atol=1e-5, rtol=1e-4)
    with pytest.raises(DsamlError, match=f"{name} wants slices of"):
        model(torch.randn(2, 7, 3))


@pytest.mark.parametrize("name", ["crnn", "damff"])
def test_baselines_train_plainly_and_with_maml(name, store):
    config = BaselineConfig(name, width=0.25, slice_shape=(16, 64))
    wide = {s: Features(torch.randn(12, 16, 64), torch.zeros(1, 0)) for s in store.dataset.songs}
    store = SongStore(store.dataset, wide, 12)
    model = make_baseline(config)
    plain = train_supervised(model, store, SupervisedConfig(steps=2, batch_size=3), seed=0, validate_every=2)
    assert len(plain.loss) == 2
    meta = replace(META, adapt="all", train_adapter=True, tasks_at_once=1, steps=2)
    trained = []
    for engine in ("stacked", "learn2learn"):
        own = copy.deepcopy(model)
        history = train_maml(own, store, replace(meta, engine=engine, query_mode="eval"), seed=0, validate_every=2)
        trained.append((history.loss, own.state_dict()))
    assert trained[0][0] == pytest.approx(trained[1][0], abs=1e-5)
    for name, tensor in trained[0][1].items():
        torch.testing.assert_close(tensor, trained[1][1][name], atol=1e-4, rtol=1e-3)


def test_mcrnn_augments_in_training_only():
    model = make_baseline(BaselineConfig("mcrnn", **SMALL))
    x = torch.randn(1, 3, 1600)
    for dropout in [m for m in model.modules() if isinstance(m, torch.nn.Dropout)]:
        dropout.p = 0.0
    model.recurrent.dropout = 0.0
    model.train()
    assert not torch.equal(model(x).prediction, model(x).prediction)
    model.eval()
    assert torch.equal(model(x).prediction, model(x).prediction)


def test_an_unknown_baseline_is_one_sentence():
    with pytest.raises(DsamlError, match="choose one of: crnn, dnn, mcrnn, damff"):
        make_baseline(BaselineConfig("rnn"))


def test_protocols_are_named_and_scored():
    store = make_store()
    assert set(protocols.PROTOCOLS) == {"dmer", "cross-song", "prefix"}
    floors = pd.concat(protocols.dmer_floors(store))
    own = floors[floors.method == "the song's own mean (oracle)"]
    assert (own.ccc == 0).all() and set(own.annotator) == {"all"}
    assert protocols.prefix_tasks(store) == []  # no song is longer than a clip
    constant = floors[floors.method == "constant (training mean)"]
    assert (constant.rmse.to_numpy() >= own.rmse.to_numpy()).all()  # a song's own mean is its best constant
    split = store.dataset.split
    table = protocols.cross_song(store, DSAML(MODEL).eval(), META, "m", 7, supports=2)
    assert set(table.annotator) == set(split.annotators["test"]) and set(table.song) == set(split.songs["test"])
    assert len(table) == 2 * 6 * 2 and set(table.seed) == {7}  # a row for each listener, song and dimension


def long_store(steps: int = 80) -> tuple[SongStore, dict[str, Features]]:
    """Two test listeners with three songs of 40 s each, ready for the prefix protocol."""
    rng = np.random.default_rng(1)
    songs, people = ("a", "b", "c"), ("p", "q")
    times = 15 + 0.5 * np.arange(steps)
    features = {
        s: Features(
            torch.from_numpy(rng.normal(size=(steps, *MODEL.slice_shape)).astype(np.float32)), torch.zeros(1, MODEL.dim)
        )
        for s in songs
    }
    tracks = {
        who: {s: Annotation(s, who, times, rng.uniform(-1, 1, (steps, 2))) for s in songs if (who, s) != ("q", "c")}
        for who in people
    }
    empty = {"train": (), "validation": ()}
    split = Split(empty | {"test": songs}, empty | {"test": people})
    dataset = Dataset("synthetic", False, Path("memory"), {s: Song(s, None) for s in songs}, {}, tracks, split, (), {})
    return SongStore(dataset, features), features


@pytest.mark.parametrize("adapt", ["all", "no-adapter"])
def test_prefix_adapts_every_listener_to_each_song_by_itself(adapt):
    store, features = long_store()
    torch.manual_seed(0)
    model = DSAML(MODEL).eval()
    config = replace(META, adapt=adapt, inner_lr=0.5)
    together, alone = (
        protocols.prefix(store, features, model, replace(config, tasks_at_once=n), "m", 0) for n in (4, 1)
    )
    assert set(zip(alone.annotator, alone.song, strict=True)) == {
        (who, song) for who in "pq" for song in "abc" if (who, song) != ("q", "c")
    }
    pd.testing.assert_frame_equal(together, alone, rtol=1e-3, atol=1e-4)
    unadapted = protocols.prefix(store, features, model, config, "m", 0, steps=0)
    assert (unadapted.rmse - alone.rmse).abs().max() > 1e-3
