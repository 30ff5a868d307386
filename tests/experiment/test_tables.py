"""From hand-made predictions through result files to tables and claims; verdicts follow the numbers."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import META, make_store
from scipy import stats

from book.builder import claims_page, markdown, tables_page
from dsaml.config import DEMO, DIMENSIONS, PAPER, SupervisedConfig, adjusted
from dsaml.evaluate import bootstrap, floors, protocols
from dsaml.evaluate.scores import UNTRAINED, scores_table
from dsaml.experiment import claims, figure4, rows, tables, workflow
from dsaml.experiment.recipes import (
    ABLATIONS,
    ANNOTATOR_LABELS_LONG,
    DMER_MODEL,
    MAML_ANNOTATOR,
    MAML_MEAN,
    NON_META,
    NON_META_LONG,
    RELEASED_POSITIONS,
    digest,
    passes,
    recipes,
)
from dsaml.experiment.results import provenance, write_result
from dsaml.learn.training import cross_song_tasks

PUBLISHED = json.loads((Path(__file__).parents[2] / "data" / "paper_tables.json").read_text())


def _predicted(quality: dict[str, float], protocol: str = "cross-song", seeds: int = 2) -> pd.DataFrame:
    """A scores table of predictions made by hand: the truth times ``quality``, with a little noise per song."""
    store, parts = make_store(), []
    questions = protocols.cross_song_questions(store, cross_song_tasks(store, "test", 2))
    for method, share in quality.items():
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            curves = [share * q.target + rng.normal(0, 0.01, q.target.shape) for q in questions]
            parts.append(scores_table(questions, curves, method, seed).assign(protocol=protocol))
    return pd.concat(parts, ignore_index=True)


GOOD = {MAML_ANNOTATOR: 1.0, MAML_MEAN: 0.5, NON_META: 0.3, floors.AVERAGE_CURVE_SPREAD: 0.4}


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
    spread = {"arousal": 1.3, "valence": 2.0}
    run = tmp_path / "demo"
    write_result(run / "tables-synthetic.json", {"blocks": blocks, "gap_closed": gap, "spread": spread}, stamp)
    write_result(run / "claims-synthetic.json", {"claims": claims.judge_all(blocks)}, stamp)
    text = tables_page.text("table4", [run], PUBLISHED, tmp_path / "figures")
    line = next(line for line in text.splitlines() if line.startswith("| Ours (trained without the personalized"))
    theirs = "0.357\u00a0/\u00a00.080<br>0.533\u00a0/\u00a00.129<br>0.236\u00a0/\u00a00.256"
    assert MAML_MEAN in line and theirs in line  # the paper's row of Table 4
    assert markdown.interval(row) in line and f"*{MAML_ANNOTATOR}* goes 25 % in arousal and 50 % in valence" in text
    assert f"*{floors.AVERAGE_CURVE_SPREAD}* to *{floors.OWN_CURVE}*" in text and "1.3 in arousal and 2.0 in valence" in text
    cells = blocks["table4"]["rows"][MAML_MEAN]
    for metric in ("pcc", "rmse"):
        assert "\u00a0/\u00a0".join(f"{cells[d][metric]['mean']:.3f}" for d in DIMENSIONS) in line
    assert "not run here: `reproduce table4`" in text and "On DEAM: not run: needs DEAM." in text
    assert "cannot be run" in text
    said = claims_page.text("synthetic", [run], tmp_path / "figures")
    verdicts, numbers = said.split(":::{dropdown}")
    lines = {line.split(" | ")[0].strip("| "): line for line in verdicts.splitlines() if line.startswith("| C")}
    assert "**holds**" in lines["C11"] and "not run" in lines["C2"] and "answers of people" in lines["C15"]
    cells = blocks["table4"]["differences"][f"{MAML_ANNOTATOR} | {MAML_MEAN}"]
    deciding = min(cells.values(), key=lambda cell: cell["low"])
    assert markdown.difference(deciding) in lines["C11"] and "p (Holm) " in lines["C11"]
    assert all(markdown.difference(cell) in numbers for cell in cells.values())
    for page, name in ((text, "table4-tables-synthetic-demo.svg"), (said, "claims-synthetic-demo.svg")):
        assert f"figures/{name}" in page and ":alt: " in page
        assert (tmp_path / "figures" / name).read_text(encoding="utf-8").count("<path") > 20
    assert "Not run" in claims_page.text("deam", [run], tmp_path / "figures")
    there = provenance(adjusted(PAPER, "mel", steps=3), None, seeds=[0], seconds=0, real=True) | {"dataset": "deam"}
    other = tmp_path / "paper-mel-3-steps-deam"
    write_result(other / "tables-deam.json", {"blocks": {"table4": blocks["table4"]}, "gap_closed": None}, there)
    both = tables_page.text("table4", [run, other], PUBLISHED, tmp_path / "figures")
    titles = [line for line in both.splitlines() if ", protocol `cross-song`" in line]
    assert titles[0].startswith("**None** (synthetic data), profile `demo`, encoder `mel`, 2 training seeds")
    assert titles[1].startswith("**deam** (real data), profile `paper-mel-3-steps` in `results/paper-mel-3-steps-deam`")
    assert "table4-tables-deam-paper-mel-3-steps-deam.svg" in both and "On DEAM: not run" not in both
    assert "On DEAM: not run" in tables_page.text("table1", [run, other], PUBLISHED, tmp_path / "figures")


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


def test_the_terminals_table_has_all_three_scores():
    shown = workflow.terminal_table(tables.payload_of(_predicted(GOOD), frozenset())["table4"])
    assert [column.header for column in shown.columns][1:4] == ["arousal CCC", "arousal PCC", "arousal RMSE"]
    assert len(shown.columns) == 7 and shown.row_count == len(GOOD)


def test_one_averaged_curve_per_song_is_resampled_by_songs_and_seeds():
    rng, songs = np.random.default_rng(0), [f"s{k}" for k in range(30)]
    level = rng.normal(0.5, 0.1, 30)
    parts = [
        pd.DataFrame({"method": name, "seed": seed, "annotator": "all", "song": songs, "dimension": d, "protocol": "dmer"})
        .assign(ccc=level + gain + rng.normal(0, 0.02, 30), pcc=0.5 + level, rmse=0.2)
        for name, gain, seeds in ((DMER_MODEL, 0.1, range(3)), ("CRNN", 0.0, [0]), ("support mean", -0.2, [UNTRAINED]))
        for seed in seeds
        for d in DIMENSIONS
    ]
    blocks = tables.payload_of(pd.concat(parts, ignore_index=True), frozenset(["s0"]))
    assert blocks["table3-long-range"]["rows"] == {}  # one song tells nothing about others
    block = blocks["table1"]
    one, floor = (block["paired"][name]["arousal"] for name in ("CRNN", "support mean"))
    assert one["seeds"] == "unknown" and one["low"] > 0 and one["mean"] == pytest.approx(0.1, abs=0.02)
    assert floor["seeds"] == "several" and block["rows"][DMER_MODEL]["arousal"]["ccc"]["seeds"] == "several"
    width = block["rows"][DMER_MODEL]["arousal"]["ccc"]
    assert width["high"] - width["low"] == pytest.approx(2 * 1.96 * 0.1 / np.sqrt(30), rel=0.4)  # songs, not one cell


SURE, UNSURE = 0.001, 0.2  # p-values after Holm


@pytest.mark.parametrize(
    "cells, verdict",
    [
        ([(0.1, SURE), (0.2, SURE)], claims.HOLDS),
        ([(0.1, SURE), (0.2, UNSURE)], claims.UNDECIDED),
        ([(0.1, SURE), (-0.2, UNSURE)], claims.UNDECIDED),
        ([(0.1, SURE), (-0.2, SURE)], claims.FAILS),
        ([(0.1, SURE), None], claims.NOT_RUN),
        ([(-0.1, SURE), None], claims.NOT_RUN),
        ([], claims.NOT_RUN),
    ],
)
def test_the_rule_of_the_verdict(cells, verdict):
    assert claims.verdict([c and {"mean": c[0], "p_holm": c[1]} for c in cells]) == verdict


def _claim(comparisons: int) -> claims.Claim:
    pairs = tuple(("ours", f"other {k}") for k in range(comparisons))
    return claims.Claim("X", "ours is better", "nowhere", "block", pairs, "python -m dsaml nothing")


def _judged(z: np.ndarray, names: tuple[str, ...]) -> dict:
    """A claim from normal differences (comparisons, names) with standard error 1."""
    p = 2 * stats.norm.sf(np.abs(z))
    cells = [
        {name: {"mean": z[k, d], "p": p[k, d], "low": z[k, d] - 1.96, "high": z[k, d] + 1.96} for d, name in enumerate(names)}
        for k in range(len(z))
    ]
    return claims.judge(_claim(len(z)), {"block": {"differences": {f"ours | other {k}": c for k, c in enumerate(cells)}}})


@pytest.mark.parametrize("shared", [0.0, 0.7], ids=["independent", "correlated"])
def test_with_16_differences_neither_verdict_comes_by_chance(shared):
    """One row against eight in two dimensions, nothing differs: the differences share that row's luck."""
    rng, names, found, old = np.random.default_rng(0), ("arousal", "valence"), [], []
    for _ in range(1000):
        z = np.sqrt(shared) * rng.normal(size=(1, 2)) + np.sqrt(1 - shared) * rng.normal(size=(8, 2))
        found.append(_judged(z, names)["verdict"])
        old.append((z < -1.96).any())  # "does not hold" by uncorrected intervals
    rates = {verdict: np.mean([f == verdict for f in found]) for verdict in (claims.HOLDS, claims.FAILS)}
    assert max(rates.values()) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)
    assert np.mean(old) > (0.25 if shared == 0 else 0.08)


@pytest.mark.parametrize("shift, verdict", [(5.0, claims.HOLDS), (-5.0, claims.FAILS)])
def test_with_16_differences_a_difference_is_seen(shift, verdict):
    rng = np.random.default_rng(1)
    found = [_judged(shift + rng.normal(size=(8, 2)), ("arousal", "valence"))["verdict"] for _ in range(200)]
    assert np.mean([f == verdict for f in found]) > 0.9


def test_a_claim_may_have_one_cell_of_any_name(tmp_path, monkeypatch):
    judged = _judged(np.array([[4.0], [6.0]]), ("separation",))
    first, second = (row["cells"]["separation"] for row in judged["comparisons"])
    assert judged["verdict"] == claims.HOLDS
    assert first["p_holm"] == first["p"] and second["p_holm"] == pytest.approx(2 * second["p"])  # Holm: 4 is the larger p
    for cell in (first, second):
        cell |= {"p_floor": 1e-4, "seeds": "several"}
    stamp = provenance(DEMO, None, seeds=[0], seconds=0, real=False)
    write_result(tmp_path / "claims-synthetic.json", {"claims": [judged]}, stamp)
    claim = next(c for c in claims.CLAIMS if c.id == "C10")
    monkeypatch.setattr(claims, "CLAIMS", (replace(claim, id=judged["id"], text=judged["text"]),))
    said = claims_page.text("synthetic", [tmp_path], tmp_path / "figures")
    assert "**holds**" in said and "| separation in seconds | " in said


def test_a_judged_claim_leaves_the_tables_numbers_alone():
    blocks = tables.payload_of(_predicted(GOOD), frozenset())
    before = json.dumps(blocks, default=str)
    claims.judge_all(blocks)
    assert json.dumps(blocks, default=str) == before


@pytest.mark.parametrize(
    "cell, shown",
    [
        ({"p": 0.0001, "p_floor": 0.0001, "p_holm": 0.0001}, "< 0.0001"),
        ({"p": 0.0001, "p_floor": 0.0001, "p_holm": 0.0016}, "< 0.002"),
        ({"p": 0.0003, "p_floor": 0.0001, "p_holm": 0.0006}, "0.0006"),
        ({"p": 0.04, "p_floor": 0.0001, "p_holm": 0.08}, "0.080"),
    ],
)
def test_a_p_value_is_never_shown_as_zero(cell, shown):
    assert bootstrap.p_text(cell) == shown


def test_a_difference_with_unknown_seeds_says_so():
    cell = {"mean": 0.1, "low": 0.0, "high": 0.2, "seeds": "unknown"}
    assert "seeds: unknown" in markdown.difference(cell) and "seeds" not in markdown.difference(cell | {"seeds": "unpaired"})


def test_every_row_of_the_paper_has_its_place():
    for block in tables.BLOCKS:
        for row in tables.PAPER_ROWS[block.table]:
            assert tables_page.paper_cells(PUBLISHED[block.table], row, "deam") != "not in the paper", (block.name, row)
        assert len(tables.PAPER_ROWS[block.table]) == len(PUBLISHED[block.table]["rows"])


def test_every_claim_compares_rows_that_a_table_has():
    known = {
        block.name: {*tables.PAPER_ROWS[block.table].values(), *block.extra, *rows.ORACLES, *rows.FLOORS}
        for block in tables.BLOCKS
    } | {figure4.BLOCK: set(figure4.METHODS)}
    for claim in claims.CLAIMS:
        for pair in claim.pairs:
            assert set(pair) <= known[claim.block], claim.id


def test_jobs_are_what_the_tables_need():
    every = recipes(DEMO)
    jobs = tables.jobs_of(["table1", "table2", "table3", "table4"], range(3))
    assert {name for _, name, _ in jobs} <= set(every)
    assert ("dmer", DMER_MODEL, 2) in jobs and ("pdmer", "CRNN, MAML", 2) in jobs
    assert len(jobs) == len(set(jobs))
    assert {name for _, name, _ in tables.jobs_of(["table3"], [0])} == {DMER_MODEL, *ABLATIONS, RELEASED_POSITIONS}


@pytest.mark.parametrize("profile", [DEMO, PAPER], ids=lambda profile: profile.name)
def test_every_row_of_a_table_is_trained(profile):
    every = recipes(profile)
    models = {name for _, name, _ in tables.jobs_of(["table1", "table2", "table3", "table4"], [0])}
    assert models <= set(every)
    first = every[DMER_MODEL].training
    assert all(every[name].training == first for name in ABLATIONS)  # an ablation differs in the model alone


@pytest.mark.parametrize("profile", [DEMO, PAPER], ids=lambda profile: profile.name)
def test_the_long_non_meta_models_make_as_many_song_passes_as_maml(profile):
    every = recipes(profile)
    wanted = passes(every[MAML_ANNOTATOR].training)
    for name in (NON_META_LONG, ANNOTATOR_LABELS_LONG):
        assert 0 <= wanted - passes(every[name].training) < every[name].training.batch_size
        assert profile is PAPER or every[name].training.steps == every[MAML_ANNOTATOR].training.steps  # and in as many steps
        assert every[name].training.patience == 0  # they do not stop before
        assert every[name].start == every[MAML_ANNOTATOR].start
        assert every[name].training.train_adapter == every[MAML_ANNOTATOR].training.train_adapter
    assert passes(SupervisedConfig(batch_size=4), 3) == 12
    assert passes(replace(META, tasks_per_step=3, inner_steps=2, support_songs=1, query_songs=3), 10) == 150


def test_recipes_know_what_they_start_from():
    demo, paper = recipes(DEMO), recipes(PAPER)
    assert demo[MAML_ANNOTATOR].start == DMER_MODEL and paper[MAML_ANNOTATOR].start is None
    assert demo["CRNN, MAML"].start == "CRNN"
    assert demo["CRNN, MAML"].training.tasks_at_once == DEMO.baseline_tasks
    assert len({digest(demo, name) for name in demo}) == len(demo)
    assert digest(demo, MAML_MEAN) != digest(paper, MAML_MEAN)
