"""Songs of any length, people with two songs each: they train and are scored through the commands' own functions."""

import json
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from dsaml.config import DEMO, adjusted
from dsaml.data import load_dataset
from dsaml.errors import DsamlError
from dsaml.evaluate import protocols
from dsaml.evaluate.floors import FLAT_TOO
from dsaml.experiment import workflow
from dsaml.experiment.average_listener import JOINED, LEVELLED, NETWORK, WEIGHTED
from dsaml.experiment.listeners import run_listeners
from dsaml.experiment.prepare import Source, prepare
from dsaml.experiment.results import read_result

PMEMO = Path(__file__).parents[3] / "shared" / "data" / "PMEmo2019"
RATE = 8000


def sound(path: Path, seconds: float, pitch: float) -> None:
    clock = np.arange(round(RATE * seconds)) / RATE
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, 0.3 * np.sin(2 * np.pi * pitch * clock) * (0.6 + 0.4 * np.sin(clock / 3)), RATE)


@pytest.mark.skipif(not PMEMO.is_dir(), reason="PMEmo's labels (../shared/data) are not here")
def test_pmemo_trains_and_scores_from_its_real_labels(tmp_path):
    """Its real labels, most of them shorter than 60; the audio in its layout is generated."""
    every = load_dataset("pmemo", PMEMO)
    parts = every.split.songs
    short = sorted(parts["train"], key=lambda song: len(every.mean[song]))[:6]
    chosen = [*short, *parts["validation"][:2], *parts["test"][:2]]
    root = tmp_path / "PMEmo2019"
    (root / "annotations").mkdir(parents=True)
    for name in ("metadata.csv", "annotations/dynamic_annotations.csv"):
        table = pd.read_csv(PMEMO / name, dtype=str)
        table[table.musicId.isin(chosen)].to_csv(root / name, index=False)
    lengths = pd.read_csv(PMEMO / "metadata.csv", dtype={"musicId": str}).set_index("musicId").duration
    for k, song in enumerate(chosen):
        sound(root / "chorus" / f"{song}.wav", float(lengths[song]), 200 + 40 * k)
    data = load_dataset("pmemo", root)
    assert data.clip_steps == 20 and min(len(data.mean[s]) for s in short) < 60
    model, result, source = tmp_path / "m.safetensors", tmp_path / "r.json", Source("pmemo", root, tmp_path / "cache")
    workflow.train(adjusted(DEMO, steps=2), source, model, "dmer", 0)
    done = workflow.evaluate(model, source, result, "dmer")
    assert np.isfinite(done["rows"]["m"]["arousal"]["ccc"]["mean"]) and result.is_file()


@pytest.fixture(scope="module")
def mine(tmp_path_factory) -> Path:
    """Twelve songs of 20 to 40 labels at 2 Hz, six people with two songs each."""
    root, rng, rows = tmp_path_factory.mktemp("mine"), np.random.default_rng(0), []
    for k in range(12):
        seconds = 25 + k % 3 * 5
        sound(root / f"s{k:02d}.wav", seconds + 1, 200 + 30 * k)
        for who in (f"p{k // 4}-0", f"p{k // 4}-1") if k % 4 < 2 else (f"p{k // 4}-2", f"p{k // 4}-3"):
            curve = rng.normal(0, 0.3, 2) + 0.4 * np.sin(np.arange(15, seconds, 0.5)[:, None] / rng.uniform(2, 6, 2))
            rows += [(f"s{k:02d}", who, t, *v.clip(-1, 1)) for t, v in zip(np.arange(15, seconds, 0.5), curve, strict=True)]
    frame = pd.DataFrame(rows, columns=["song_id", "annotator_id", "time_s", "arousal", "valence"])
    frame.to_csv(root / "annotations.csv", index=False)
    names = [f"s{k:02d}" for k in range(12)]
    songs = {"train": names[:4], "validation": names[4:8], "test": names[8:]}
    people = {part: [f"p{n}-{k}" for k in range(4)] for n, part in enumerate(songs)}
    pd.Series({"songs": songs, "annotators": people}).to_json(root / "splits.json")
    return root


def test_people_with_two_songs_make_tasks_of_one_and_one(mine, tmp_path, caplog, monkeypatch):
    """And each of these tasks is scored once; whoever waits is told how many are done."""
    asked, told = [], {}

    @contextmanager
    def counter(what, unit="song"):
        yield lambda done, total: told.setdefault(what, []).append((done, total))

    monkeypatch.setattr(workflow, "counter", counter)
    predict = protocols.predict_tasks
    monkeypatch.setattr(protocols, "predict_tasks", lambda *a, **k: asked.append(a[2]) or predict(*a, **k))
    model, cache = tmp_path / "m.safetensors", tmp_path / "cache"
    few, source = adjusted(DEMO, steps=2), Source("folder", mine, cache)
    with pytest.raises(DsamlError, match="tasks of 1 support and 3 query songs want 4 songs"):
        workflow.train(few, source, model, "pdmer", 0, task_songs=(None, 3))
    assert not (cache / "features").exists()  # told before anything was computed
    with caplog.at_level("WARNING"):
        workflow.train(few, source, model, "pdmer", 0)
    assert "tasks of 1 support and 1 query songs" in caplog.text
    for protocol in ("cross-song", "prefix", "dmer"):
        done = workflow.evaluate(model, source, tmp_path / f"{protocol}.json", protocol)
        assert np.isfinite(done["rows"]["m"]["valence"]["rmse"]["mean"])
    assert [len(tasks) for tasks in asked] == [8, 8] and all(len(set(tasks)) == 8 for tasks in asked)  # 4 people, 2 songs each
    assert set(told) == {"choosing the inner loop", "m", "m, not adapted"}
    assert told["m"] == [(8, 8), (6, 6)] and told["choosing the inner loop"][-1] == (6 * 8, 6 * 8)  # six songs have a rest


def test_a_song_of_a_few_labels_is_left_out_with_a_count(mine, tmp_path, caplog):
    root = tmp_path / "mine"
    shutil.copytree(mine, root)
    table = pd.read_csv(root / "annotations.csv")
    table[(table.song_id != "s00") | (table.time_s < 18)].to_csv(root / "annotations.csv", index=False)
    with caplog.at_level("WARNING"):
        workflow.train(adjusted(DEMO, steps=1), Source("folder", root, tmp_path / "c"), tmp_path / "m.safetensors", "dmer", 0)
    assert "1 songs and" in caplog.text and "of fewer than 10 labels (5 s) are left out" in caplog.text


def test_real_listeners_are_scored_against_floors(mine, tmp_path, caplog):
    """The whole way on twelve songs: the file has every row, with paired differences, and says what was to be shown.

    One track of a test listener never moves: it has levels and no CCC, and without it the listener has no pair of songs.
    """
    root = tmp_path / "mine"
    shutil.copytree(mine, root)
    table = pd.read_csv(root / "annotations.csv")
    table.loc[(table.annotator_id == "p2-0") & (table.song_id == "s08"), ["arousal", "valence"]] = 0.3
    table.to_csv(root / "annotations.csv", index=False)
    with caplog.at_level("INFO"):
        experiment = prepare(adjusted(DEMO, steps=2), Source("folder", root, tmp_path / "cache"))
        done = run_listeners(experiment, (0,), tmp_path)
    assert experiment.dataset.split.annotators["test"] == ("p2-1", "p2-2", "p2-3")
    assert "1 tracks never move" in caplog.text
    assert "cross-song, flat tracks too: 8 curves, 1 of them flat and without a CCC" in caplog.text
    kept = read_result(tmp_path / "listeners-folder.json")
    assert kept["provenance"]["flat_tracks"] == {"train": 0, "validation": 0, "test": 1}
    flat = {name: block["flat_curves"] for name, block in kept["protocols"].items()}
    assert flat["averaged"] == flat["cross-song"] == flat["prefix"] == 0 and flat["cross-song" + FLAT_TOO] == 1
    assert {NETWORK, LEVELLED, JOINED} < kept["protocols"]["averaged"]["rows"].keys()
    weighing = kept["chosen"]["averaged"]["weighted_raters"]
    better = [a < b for a, b in zip(weighing["left_out_rmse"], weighing["left_out_rmse_unweighted"], strict=True)]
    assert weighing["used"] == better and weighing["raters"] == 8 and WEIGHTED in kept["protocols"]["averaged"]["rows"]
    assert kept["goals"] == json.loads(json.dumps(done["goals"])) and kept["audio"] == "as it came"
    assert [kept["protocols"]["cross-song" + more]["people"] for more in ("", FLAT_TOO)] == [3, 4]
    assert kept["protocols"]["averaged"]["songs"] == 4
    for block in kept["protocols"].values():
        for name, cells in block["rows"].items():
            for cell in cells.values():
                assert ("rmse_above" in cell) == (name != block["reference"])
                assert cell["rmse"]["low"] <= cell["rmse"]["mean"] <= cell["rmse"]["high"]
    first, second = (kept["protocols"]["prefix"]["rows"][row]["arousal"] for row in ("last support value", "two heads"))
    assert first["ccc"]["mean"] == 0 and second["rmse_above"]["mean"] == pytest.approx(
        second["rmse"]["mean"] - first["rmse"]["mean"], abs=2e-5
    )
    assert all(len(goal["met"]) == 2 for goal in kept["goals"])
