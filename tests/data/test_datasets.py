"""The loaders: one type of data set, nothing altered, every exclusion with its reason."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from labels import curve, write_corpus, write_tables
from typer.testing import CliRunner

from dsaml.cli.main import app
from dsaml.config import DEMO
from dsaml.data import deam, folder, load_dataset
from dsaml.data.checks import check
from dsaml.data.splits import SPLITS, drawn_parts, read_split
from dsaml.errors import DsamlError
from dsaml.experiment.prepare import with_label_start

SHARED = Path(__file__).parents[3] / "shared" / "data"
real = pytest.mark.skipif(not SHARED.is_dir(), reason="the real labels (../shared/data) are not here")
REPOSITORY = Path(__file__).parents[2]


def reasons(dataset) -> dict[str, str]:
    return {e.subject: e.reason for e in dataset.exclusions}


def test_deam_per_annotator_labels_and_their_exclusions(tmp_path, monkeypatch):
    rng = np.random.default_rng(1)
    tracks = {str(i): {w: curve(rng, 60) for w in ("good", "flat", "few")} for i in range(1001, 1031)}
    for song in list(tracks)[16:]:
        del tracks[song]["few"]
    for song in tracks:
        tracks[song]["flat"][:, 1] = 0.3 + 0.001 * rng.normal(size=60)
    write_tables(tmp_path, tracks)
    parts = {"train": tuple(tracks)[:15], "validation": (), "test": tuple(tracks)[15:]}
    people = {"train": ("good", "few"), "validation": (), "test": ("flat",)}
    (tmp_path / "corpus.json").write_text(json.dumps({"config": {}, "songs": parts, "annotators": people}))
    with monkeypatch.context() as patch:
        patch.setitem(deam.MIN_SONGS, "train", 15)
        dataset = load_dataset("deam", tmp_path)
    assert dataset.split.annotators == {"train": ("few", "good"), "validation": (), "test": ()}
    np.testing.assert_allclose(dataset.tracks["good"]["1001"].values, tracks["1001"]["good"], atol=1e-6)
    np.testing.assert_allclose(dataset.tracks["good"]["1001"].times, 15 + 0.5 * np.arange(60))
    np.testing.assert_allclose(dataset.mean["1001"].values, np.mean(list(tracks["1001"].values()), 0), atol=1e-5)
    assert set(dataset.tracks["good"]) == set(parts["train"])  # a training annotator keeps no test song
    assert "flat track" in reasons(dataset)["song 1001, annotator flat"]
    stricter = load_dataset("deam", tmp_path)  # 16 songs, as the released code asks
    assert stricter.tracks == {} and "15 usable train songs, fewer than 16" in reasons(stricter)["annotator good"]


def test_deam_default_split_keeps_people_apart(tmp_path):
    rng = np.random.default_rng(2)
    clips = {str(i): {f"w{k}": curve(rng, 60) for k in range(12)} for i in range(1001, 1041)}
    full = {str(i): {f"w{k}": curve(rng, 70) for k in range(9, 15)} for i in range(2001, 2021)}
    write_tables(tmp_path, clips | full)
    dataset = load_dataset("deam", tmp_path)
    parts = dataset.split.annotators
    assert set(parts["test"]) == {f"w{k}" for k in range(9, 15)}
    assert set(parts["train"]) | set(parts["validation"]) == {f"w{k}" for k in range(9)}
    assert not set(parts["train"]) & set(parts["validation"])
    assert dataset.split.songs["test"] == tuple(full) and dataset.real
    assert all(int(song) > 2000 for who in parts["test"] for song in dataset.tracks[who])
    assert "is a test annotator; 40 tracks" in reasons(dataset)["annotator w9"]
    assert all(dataset.songs[s].clip for s in clips) and not any(dataset.songs[s].clip for s in full)


def test_deam_damaged_rows_are_left_out_with_a_reason(tmp_path):
    rng = np.random.default_rng(3)
    write_tables(tmp_path, {str(i): {"w": curve(rng, 60)} for i in range(2, 6)})
    path = deam.mean_file(tmp_path, "valence")
    lines = path.read_text().splitlines()
    cells = lines[1].split(",")
    lines[1] = ",".join([*cells[:9], "", *cells[10:]])
    lines[2] = lines[2].rsplit(",", 1)[0] + ","
    path.write_text("\n".join(lines[:4]) + "\n")
    file = deam.rater_folder(tmp_path, "arousal") / "4.csv"
    file.write_text(file.read_text().replace("WorkerId,", "").replace("\nw,", "\n"))
    other = deam.rater_folder(tmp_path, "valence") / "4.csv"
    other.write_text(other.read_text().replace("WorkerId,", "").replace("\nw,", "\n"))
    dataset = load_dataset("deam", tmp_path)
    assert list(dataset.mean) == ["3", "4"] and len(dataset.mean["3"]) == 59
    why = reasons(dataset)
    assert "inside the track" in why["song 2"] and why["song 5"] == "no valence labels"
    assert "no annotator ids" in why["song 4, all annotators"]
    path.unlink()
    with pytest.raises(DsamlError, match=r"valence.csv: the file is missing; get it again"):
        load_dataset("deam", tmp_path)


def test_a_corpus_is_never_called_real(tmp_path):
    write_corpus(tmp_path)
    dataset = load_dataset("deam", tmp_path)
    assert not dataset.real and dataset.name == "synthetic"
    assert len(dataset.tracks) == 6 and not dataset.songs["2016"].clip
    (tmp_path / "corpus.json").write_text("{}")
    assert not load_dataset("deam", tmp_path).real


@real
def test_real_deam():
    dataset = load_dataset("deam", SHARED / "DEAM")
    assert dataset.real and len(dataset.mean) == 1802 and dataset.tracks == {}
    assert {p: len(s) for p, s in dataset.split.songs.items()} == {"train": 1565, "validation": 179, "test": 58}
    assert sum("; cut to" in e.reason for e in dataset.exclusions) == 7
    table = pd.read_csv(deam.mean_file(SHARED / "DEAM", "arousal"), index_col=0)
    for song in ("2", "1500", "2001"):
        np.testing.assert_array_equal(dataset.mean[song].values[:, 0], table.loc[int(song)].dropna())
    assert [i for i, s in dataset.songs.items() if s.audio] == ["2", "3", "4", "5", "7"]


@real
def test_real_pmemo():
    dataset = load_dataset("pmemo", SHARED / "PMEmo2019")
    assert {p: len(s) for p, s in dataset.split.songs.items()} == {"train": 571, "validation": 61, "test": 40}
    assert sum("dropped as in the paper" in e.reason for e in dataset.exclusions) == 122
    values = np.concatenate([a.values for a in dataset.mean.values()])
    assert values.min() >= 0 and values.max() <= 1
    assert all(a.times[0] == 15 for a in dataset.mean.values())


def test_pmemo_labels_open_their_half_second(tmp_path):
    (tmp_path / "annotations").mkdir()
    durations = {"1": 20.0, "4": 30.0, "5": 70.0, "6": 40.0}
    meta = ["musicId,title,duration", *(f'{i},"a, ""b""",{d}' for i, d in durations.items())]
    (tmp_path / "metadata.csv").write_text("\n".join(meta))
    rows = ["musicId,frameTime,Arousal(mean),Valence(mean)"]
    rows += [f"{i},{t},0.5,{t / 100}" for i, d in durations.items() if i != "6" for t in np.arange(15.5, d, 0.5)]
    (tmp_path / "annotations" / "dynamic_annotations.csv").write_text("\n".join(rows))
    dataset = load_dataset("pmemo", tmp_path)
    assert list(dataset.mean) == ["4", "5"] and dataset.split.songs["test"] == ("5",)
    assert dataset.mean["4"].times[0] == 15 and dataset.mean["4"].values[0, 1] == 0.155
    assert "shorter than 25 s" in reasons(dataset)["song 1"] and reasons(dataset)["song 6"] == "no labels"


@pytest.mark.parametrize("name", ["deam", "pmemo"])
def test_committed_splits_follow_their_rule(name):
    parts = read_split(SPLITS / f"{name}.json")["songs"]
    everyone = sorted((i for ids in parts.values() for i in ids), key=int)
    by_rule = drawn_parts(f"{name}:song", everyone, lambda song: song in parts["test"])
    assert {p: sorted(i, key=int) for p, i in parts.items()} == {p: list(i) for p, i in by_rule.items()}
    if name == "deam":
        assert parts["test"] == tuple(str(i) for i in range(2001, 2059))


def _folder(root: Path, rows: list[tuple], **splits) -> None:
    table = pd.DataFrame(rows, columns=["song_id", "annotator_id", "time_s", "arousal", "valence"])
    table.to_csv(root / "annotations.csv", index=False)
    if splits:
        (root / "splits.json").write_text(json.dumps(splits))


@pytest.mark.parametrize("rate", [1, 2, 4, 10, 1.7])
def test_any_rate_becomes_two_hertz(tmp_path, rate):
    times = np.arange(10, 31, 1 / rate)
    _folder(tmp_path, [("s", who, t, 0.02 * t - 0.5, 0.01 * t * k) for k, who in enumerate("ab", 1) for t in times])
    track = load_dataset("folder", tmp_path).mean["s"]
    np.testing.assert_allclose(track.times, 15 + 0.5 * np.arange(len(track)))
    assert track.times[-1] > times[-1] - 0.5 - 1e-6
    np.testing.assert_allclose(track.values[:, 0], 0.02 * track.times - 0.5, atol=1e-9)  # a line stays a line
    np.testing.assert_allclose(track.values[:, 1], 0.015 * track.times, atol=1e-9)  # the mean of both annotators


def test_labels_begin_where_the_settings_say(tmp_path):
    times = np.arange(3, 12)
    _folder(tmp_path, [("s", who, t, 0.02 * t, 0.01 * t * k) for k, who in enumerate("ab", 1) for t in times])
    with pytest.raises(DsamlError, match="no track can be used"):
        load_dataset("folder", tmp_path)
    settings = tmp_path / "settings.json"
    settings.write_text('{"label_start": 4.5}')
    data = load_dataset("folder", tmp_path)
    np.testing.assert_allclose(data.mean["s"].times, 4.5 + 0.5 * np.arange(14))
    np.testing.assert_allclose(data.mean["s"].values[:, 0], 0.02 * data.mean["s"].times)
    profile = with_label_start(DEMO, data)
    assert profile.audio.label_start == 4.5 and profile.model == DEMO.model
    for wrong in ('{"label_start": -1}', '{"label_start": true}', '{"start": 0}', '{"label_start": NaN}', "[]"):
        settings.write_text(wrong)
        with pytest.raises(DsamlError, match=r"settings\.json: not a settings file"):
            load_dataset("folder", tmp_path)
        assert not check("folder", tmp_path, labels_only=True).ok


def test_labels_per_measure_are_taken_where_the_settings_allow_their_gaps(tmp_path):
    times = np.arange(15, 60, 4.0)
    _folder(tmp_path, [("s", who, t, 0.01 * t, 0.01 * t * k) for k, who in enumerate("ab", 1) for t in times])
    with pytest.raises(DsamlError, match="no track can be used"):
        load_dataset("folder", tmp_path)
    (tmp_path / "settings.json").write_text('{"largest_gap": 4}')
    label = load_dataset("folder", tmp_path).mean["s"]
    assert len(label) == 89 and np.allclose(label.values[:, 0], 0.01 * label.times)
    (tmp_path / "settings.json").write_text('{"largest_gap": 0.1}')
    with pytest.raises(DsamlError, match=r"give 0\.5 s or more"):
        load_dataset("folder", tmp_path)


def test_folder_split_file_and_exclusions(tmp_path):
    times, rng = np.arange(15, 46), np.random.default_rng(4)
    rows = [(f"s{n}", f"p{k}", t, *rng.uniform(-1, 1, 2)) for n in range(6) for k in range(3) for t in times]
    rows += [("s0", "late", t, 0.1, 0.1) for t in range(20, 46)] + [("s0", "dull", t, 0.1, 0.1) for t in times]
    songs = {"train": ["s0", "s1"], "validation": ["s2", "s3"], "test": ["s4", "s5"]}
    people = {"train": ["p0"], "validation": ["p1"], "test": ["p2"]}
    _folder(tmp_path, rows, songs=songs, annotators=people)
    dataset = load_dataset("folder", tmp_path)
    assert dataset.split.songs["test"] == ("s4", "s5") and set(dataset.tracks["p2"]) == {"s4", "s5"}
    assert "starts at 20 s" in reasons(dataset)["song s0, annotator late"]
    assert "flat track" in reasons(dataset)["song s0, annotator dull"]
    _folder(tmp_path, rows, songs={"train": ["s0"], "test": ["s0"]})
    with pytest.raises(DsamlError, match="'s0' is listed twice"):
        load_dataset("folder", tmp_path)


def test_folder_default_split_is_stable_and_complete(tmp_path):
    times, rng = np.arange(15, 46), np.random.default_rng(5)
    rows = [(f"s{n}", f"p{k}", t, *rng.uniform(-1, 1, 2)) for n in range(10) for k in range(10) for t in times]
    _folder(tmp_path, rows)
    first = load_dataset("folder", tmp_path).split
    assert {p: len(s) for p, s in first.songs.items()} == {"train": 6, "validation": 2, "test": 2}
    assert {p: len(s) for p, s in first.annotators.items()} == {"train": 7, "validation": 1, "test": 2}
    rng.shuffle(order := list(range(10)))
    _folder(tmp_path, [r for n in order for r in rows if r[0] == f"s{n}"])
    again = load_dataset("folder", tmp_path).split
    assert {p: set(s) for p, s in first.songs.items()} == {p: set(s) for p, s in again.songs.items()}


def test_a_folder_keeps_the_songs_of_people_together(tmp_path):
    times, rng = np.arange(15, 46), np.random.default_rng(6)
    order = rng.permutation(40)  # neighbours by who rated them, not by name
    rows = [
        (f"s{order[2 * pair + k]}", f"p{pair}-{n}", t, *rng.uniform(-1, 1, 2))
        for pair in range(20)
        for n in range(3)
        for k in range(2)
        for t in times
    ]
    _folder(tmp_path, rows)
    data = load_dataset("folder", tmp_path)
    assert {p: len(s) for p, s in data.split.songs.items()} == {"train": 28, "validation": 4, "test": 8}
    assert {p: len(s) for p, s in data.split.annotators.items()} == {"train": 42, "validation": 6, "test": 12}
    of_song = {song: part for part, ids in data.split.songs.items() for song in ids}
    for part, people in data.split.annotators.items():
        assert {of_song[song] for who in people for song in data.tracks[who]} == {part}


def test_a_split_of_songs_alone_decides_about_people_too(tmp_path):
    times, rng = np.arange(15, 46), np.random.default_rng(7)
    rows = [(f"s{n}", f"p{n // 2}", t, *rng.uniform(-1, 1, 2)) for n in range(8) for t in times]
    _folder(tmp_path, rows, songs={"train": ["s0", "s1", "s2", "s3"], "validation": ["s4", "s5"], "test": ["s6", "s7"]})
    people = load_dataset("folder", tmp_path).split.annotators
    assert people == {"train": ("p0", "p1"), "validation": ("p2",), "test": ("p3",)}


def test_check_names_a_part_without_tasks_and_people_may_be_left_out(tmp_path):
    times, rng = np.arange(15, 46), np.random.default_rng(8)
    rows = [(f"s{n}", f"p{k}", t, *rng.uniform(-1, 1, 2)) for n in range(6) for k in range(4) for t in times]
    songs = {"train": ["s0", "s1"], "validation": ["s2"], "test": ["s3", "s4", "s5"]}
    _folder(tmp_path, rows, songs=songs, annotators={"train": ["p0"], "validation": ["p1"], "test": ["p2"]})
    report = check("folder", tmp_path, labels_only=True)
    told = [problem.message for problem in report.problems]
    assert report.ok and len(told) == 2
    assert any("the part validation makes no task: no annotator has 2 of its 1 songs" in text for text in told)
    assert any("p3: in the label table, but listed nowhere under annotators" in text for text in told)


def test_template_loads_and_refuses_to_overwrite(tmp_path):
    done = CliRunner().invoke(app, ["template", str(tmp_path / "mine")])
    assert done.exit_code == 0 and "annotations.csv" in done.output
    dataset = load_dataset("folder", tmp_path / "mine")
    assert all(song.audio for song in dataset.songs.values()) and len(dataset.mean) == 2
    with pytest.raises(DsamlError, match="not an empty folder"):
        folder.write_template(tmp_path / "mine")


def test_parquet_without_its_reader_is_one_sentence(tmp_path):
    (tmp_path / "annotations.parquet").write_bytes(b"PAR1")
    with pytest.raises(DsamlError, match=r"needs the package pyarrow|cannot be read as Parquet"):
        load_dataset("folder", tmp_path)


def test_unknown_names_and_folders(tmp_path):
    with pytest.raises(DsamlError, match="data set 'dream' is not known"):
        load_dataset("dream", tmp_path)
    with pytest.raises(DsamlError, match="not a folder"):
        load_dataset("deam", tmp_path / "no")
