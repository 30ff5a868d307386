"""The trivial predictors: the known numbers on real labels, both protocols on simulated ones, and the page."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from labels import write_corpus
from typer.testing import CliRunner

from book.builder import floors_page, prose
from dsaml.cli.main import app
from dsaml.config import DIMENSIONS, METRICS
from dsaml.data import load_dataset
from dsaml.errors import DsamlError
from dsaml.evaluate import floors, metrics

SHARED = Path(__file__).parents[3] / "shared"
REPOSITORY = Path(__file__).parents[2]
KNOWN = {  # RMSE of arousal and valence, from the known facts about both data sets
    "deam": {
        "constant": (0.264, 0.267),
        "zero": (0.259, 0.265),
        "song_mean": (0.151, 0.094),
        "prefix_mean": (0.230, 0.148),
        "prefix_last": (0.207, 0.134),
        "prefix_constant": (0.261, 0.280),
    },
    "pmemo": {"constant": (0.140, 0.148), "song_mean": (0.034, 0.026), "prefix_mean": (0.053, 0.046)},
    "vgmidi": {},
    "vgmidi-2": {},
}
ROOTS = {"deam": "DEAM", "pmemo": "PMEmo2019", "vgmidi": "vgmidi", "vgmidi-2": "vgmidi"}
ROOTS = {name: SHARED / "data" / folder for name, folder in ROOTS.items()}
real = pytest.mark.skipif(not ROOTS["deam"].is_dir(), reason="the real labels (../shared/data) are not here")


@real
@pytest.mark.parametrize("name", KNOWN)
def test_real_labels_give_the_known_numbers(name):
    done = CliRunner().invoke(app, ["floors", "--dataset", name, "--root", str(ROOTS[name]), "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    for predictor, known in KNOWN[name].items():
        scores = document[name]["test"][predictor]
        assert (scores["arousal"]["rmse"], scores["valence"]["rmse"]) == pytest.approx(known, abs=1e-3)
    facts = floors.read_facts(REPOSITORY / "data" / "floors.json")[name]
    assert facts["counts"] == document[name]["counts"]  # the committed facts are what the command says
    for key in facts["counts"]:
        for predictor, scores in document[name][key].items():
            for dimension, values in scores.items():
                assert facts[key][predictor][dimension] == pytest.approx(values, abs=2e-5)


@real
def test_pooled_scores_are_another_thing():
    dataset = load_dataset("deam", ROOTS["deam"])
    songs = [dataset.mean[i].values for i in dataset.split.songs["test"]]
    held = [np.broadcast_to(v.mean(0), v.shape) for v in songs]
    pooled = metrics.score(np.concatenate(held), np.concatenate(songs))
    assert (pooled["arousal"]["ccc"], pooled["valence"]["ccc"]) == pytest.approx((0.685, 0.916), abs=2e-3)
    assert floors.score_floors(dataset)["deam"]["test"]["song_mean"]["valence"]["ccc"] == 0


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus")
    write_corpus(root)
    return root


def test_both_protocols_where_annotators_are_known(corpus):
    dataset = load_dataset("deam", corpus)
    document = floors.score_floors(dataset)["synthetic"]
    assert document["real"] is False
    assert document["counts"]["test cross-song"]["annotators"] == 3
    tracks = {who: [t.values for t in dataset.tracks[who].values()] for who in dataset.split.annotators["test"]}
    people, prefix = [], []
    for mine in tracks.values():
        pairs = [[abs_rmse(s.mean(0), q) for s in mine if s is not q] for q in mine]
        people.append(np.mean([np.mean(p, 0) for p in pairs], 0))
        prefix.append(np.mean([abs_rmse(t[59], t[60:]) for t in mine if len(t) > 60], 0))
    support = document["test cross-song"]["support_mean"]
    assert [support[d]["rmse"] for d in DIMENSIONS] == pytest.approx(np.mean(people, 0))
    last = document["test prefix"]["prefix_last"]
    assert [last[d]["rmse"] for d in DIMENSIONS] == pytest.approx(np.mean(prefix, 0))


def abs_rmse(value, target):
    return np.sqrt(np.mean((target - value) ** 2, 0))


def test_the_terminal_says_synthetic(corpus):
    done = CliRunner().invoke(app, ["floors", "--dataset", "synthetic", "--root", str(corpus), "--split", "train"])
    assert done.exit_code == 0 and "SYNTHETIC" in done.output
    with pytest.raises(DsamlError, match="split 'dev' is not known"):
        floors.score_floors(load_dataset("deam", corpus), "dev")


def test_saving_merges(tmp_path, corpus):
    path = tmp_path / "floors.json"
    path.write_text('{"other": 1}')
    floors.merge_facts(floors.score_floors(load_dataset("deam", corpus)), path)
    assert set(floors.read_facts(path)) == {"other", "synthetic"}
    path.write_text("[")
    with pytest.raises(DsamlError, match="not a facts file"):
        floors.merge_facts({}, path)


def test_the_page_names_the_rows_that_do_not_beat_a_constant(tmp_path):
    page = tmp_path / "floors.md"
    shutil.copy(REPOSITORY / "book" / "floors.md", page)
    makers = prose.makers(REPOSITORY, tmp_path, tmp_path / "figures")
    prose.fill(tmp_path, {}, makers)
    text = page.read_text()
    assert "<!--" not in text
    sentence = next(line for line in text.splitlines() if line.startswith("Published rows") and "0.264" in line)
    assert "DAMFF (0.299), MCRNN (0.297), DNN (0.281), CRNN (0.270)" in sentence and "Ours" not in sentence
    with pytest.raises(DsamlError, match=r"floors\.md: has no line '<!-- floors -->'"):
        prose.fill(tmp_path, {}, makers)


def test_the_page_uses_annotators_floors_where_there_are_any(corpus):
    facts = floors.read_facts(REPOSITORY / "data" / "floors.json")
    facts["deam"] = floors.score_floors(load_dataset("deam", corpus))["synthetic"]
    text = floors_page.text(facts, floors.read_facts(REPOSITORY / "data" / "paper_tables.json"))
    assert "cross-song: mean of one other song" in text and "stays open" not in text


@pytest.mark.skipif(not (SHARED / "paper.md").is_file(), reason="the paper's text (../shared/paper.md) is not here")
def test_the_papers_tables_are_typed_correctly():
    rows = [re.sub(r"<[^>]*>|[†‡]", "", r) for r in re.findall(r"^\|.*\|$", (SHARED / "paper.md").read_text(), re.M)]
    published = []
    for row in rows:
        name, *cells = (c.strip() for c in row.strip("|").split("|"))
        if cells and all(re.fullmatch(r"-?[\d.]+", c) for c in cells):
            published.append((name, [float(c) for c in cells]))
    typed = []
    tables = floors.read_facts(REPOSITORY / "data" / "paper_tables.json")
    for number in (1, 2, 3, 4):
        for row in tables[f"table{number}"]["rows"]:
            sets = [row[s] for s in ("deam", "pmemo") if s in row]
            cells = [s[d][m] for s in sets for d in DIMENSIONS for m in METRICS]
            typed.append((row["model"], cells))
    assert typed == published
