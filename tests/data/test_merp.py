"""MERP from small tables in its format: halves of seconds, raw and filtered, split, and what does not fit named exactly."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from typer.testing import CliRunner

from dsaml.cli.main import app
from dsaml.data import load_dataset
from dsaml.data.base import PARTS
from dsaml.data.checks import check
from dsaml.data.merp import FILES
from dsaml.data.splits import SPLITS, parts_by_rank, read_split
from dsaml.errors import DsamlError
from dsaml.evaluate.floors import score_floors

pytest.importorskip("pyarrow")

SONGS = ["deam_115", *(f"{k:02d}_{100 + k}" for k in range(19))]
SECONDS = 26


def rows(raters: int = 30) -> list[dict]:
    """Every rater rates 15 of the songs; each has an offset and a range of their own."""
    rng = np.random.default_rng(0)
    clock = np.arange(SECONDS * 10 + 3) / 10
    out = []
    for k in range(raters):
        for song in sorted(rng.choice(len(SONGS), 15, replace=False)):
            shape = np.sin(clock / 4 + song)
            arousal, valence = 0.2 + 0.4 * shape, -0.1 + 0.3 * np.cos(clock / 3 + k)
            out.append({"song_id": SONGS[song], "rater_id": f"W{k}", "batch": 4, "arousal": arousal, "valence": valence})
    return out


def write(root: Path, table: list[dict], name: str = "merp") -> Path:
    root.mkdir(exist_ok=True)
    frame = pd.DataFrame(table)
    frame.to_parquet(root / FILES[name])
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = write(tmp_path_factory.mktemp("merp"), rows())
    filtered = [row | {"arousal": row["arousal"] * 2 - 0.4, "valence": row["valence"] * 3 + 0.3} for row in rows(20)]
    write(root, filtered, "merp-filtered")
    (root / "audio").mkdir()
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, 8000 * (SECONDS + 1))
    for song in SONGS:
        sf.write(root / "audio" / f"{song}.wav", noise, 8000)
    return root


def test_a_label_is_the_mean_of_the_half_second_that_it_opens(root):
    data, row = load_dataset("merp", root), rows()[0]
    assert data.real and data.mean.keys() == set(SONGS) and "deam_115" in data.songs
    who = next(who for who in sorted(data.tracks) if "deam_115" in data.tracks[who])
    track = data.tracks[who]["deam_115"]
    np.testing.assert_allclose(track.times, 15 + 0.5 * np.arange(22))  # the last 0.3 s are no half second
    own = next(r for r in rows() if r["rater_id"] == who and r["song_id"] == "deam_115")
    np.testing.assert_allclose(track.values[3], [own[d][165:170].mean() for d in ("arousal", "valence")])
    own = np.stack([r["arousal"][150:155].mean() for r in rows() if r["song_id"] == row["song_id"]])
    assert data.mean[row["song_id"]].values[0, 0] == pytest.approx(own.mean())
    assert data.songs["deam_115"].audio == root / "audio/deam_115.wav"


def test_raw_and_filtered_are_two_data_sets_with_the_same_parts_of_songs(root):
    raw, filtered = load_dataset("merp", root), load_dataset("merp-filtered", root)
    assert raw.name == "merp" and filtered.name == "merp-filtered" and raw.split.songs == filtered.split.songs
    both = set(raw.tracks) & set(filtered.tracks)
    who, song = next((w, s) for w in sorted(both) for s in sorted(raw.tracks[w].keys() & filtered.tracks[w].keys()))
    np.testing.assert_allclose(filtered.tracks[who][song].values[:, 0], raw.tracks[who][song].values[:, 0] * 2 - 0.4)
    of_song = {song: part for part, ids in raw.split.songs.items() for song in ids}
    assert {part: len(ids) for part, ids in raw.split.songs.items()} == {"train": 14, "validation": 2, "test": 4}
    for part in PARTS:
        assert raw.split.annotators[part]
        for who in raw.split.annotators[part]:
            assert sum(of_song[song] == part for song in raw.tracks[who]) >= 2
    assert "test cross-song" in score_floors(raw)["merp"]


def test_the_committed_list_follows_its_rule_and_keeps_deam_out_of_the_test(tmp_path):
    parts = read_split(SPLITS / "merp.json")["songs"]
    songs = [song for ids in parts.values() for song in ids]
    again = parts_by_rank("merp:song", songs)
    assert len(songs) == 54 and {part: set(ids) for part, ids in parts.items()} == {p: set(i) for p, i in again.items()}
    assert sum(song.startswith("deam_") for song in parts["train"]) == 4
    listed = [row | {"song_id": songs[SONGS.index(row["song_id"]) * 2]} for row in rows()]
    data = load_dataset("merp", write(tmp_path, listed))
    assert all(set(data.split.songs[part]) <= set(parts[part]) for part in PARTS) and len(data.mean) == 20


def test_check_and_its_summary(root):
    report = check("merp", root)
    assert report.ok and not report.problems and report.summary["rows"] == 450
    assert report.summary["raters in the table"] == 30 and report.summary["songs with audio"] == 20
    done = CliRunner().invoke(app, ["check", "--dataset", "merp-filtered", "--root", str(root), "--labels-only"])
    assert done.exit_code == 0 and "merp-filtered: OK: 0 errors" in done.output


def test_columns_that_are_missing_are_named_with_those_that_are_there(tmp_path):
    other = [{"Song_ID": r["song_id"], "turker": r["rater_id"], "arousals": r["arousal"], "v": r["valence"]} for r in rows(3)]
    report = check("merp", write(tmp_path, other), labels_only=True)
    assert not report.ok and len(report.problems) == 1
    said = report.problems[0].message
    assert "no column for the rater (rater_id, worker_id, workerid" in said
    assert "and none for the valence (valence, valences)" in said
    assert "the columns are: Song_ID, turker, arousals, v; in a copy, rename" in said and "song (" not in said
    with pytest.raises(DsamlError, match="no column for the rater"):
        load_dataset("merp", tmp_path)
    renamed = [{("workerid" if k == "turker" else "Valence" if k == "v" else k): v for k, v in row.items()} for row in other]
    assert len(load_dataset("merp", write(tmp_path, renamed)).mean) > 10


def test_what_cannot_be_used_is_left_out_with_a_reason(tmp_path):
    table = rows()
    table[0]["arousal"] = table[0]["arousal"][:-1]
    table[1]["valence"] = np.full_like(table[1]["valence"], np.nan)
    table[2] |= {d: table[2][d][:200] for d in ("arousal", "valence")}
    table[3] |= {"valence": np.full_like(table[3]["valence"], 0.2)}
    table[4]["rater_id"] = None
    table[5]["rater_id"] = "all"
    table.append(table[6] | {"arousal": -table[6]["arousal"]})
    table.append(table[7] | {"song_id": "99_1", "arousal": [0.1] * 90, "valence": [0.2] * 90})
    report = check("merp", write(tmp_path, table), labels_only=True)
    why = {e.subject: e.reason for e in report.exclusions}

    def reason(row: dict) -> str:
        return why[f"song {row['song_id']}, annotator {row['rater_id'] or '?'}"]

    assert reason(table[0]) == "has 262 values of arousal and 263 of valence"
    assert reason(table[1]) == "a value is empty or not a finite number"
    assert reason(table[2]) == "lasts 20 s, the song's median track 26.3 s"
    assert "flat track" in reason(table[3]) and reason(table[4]) == "the row has no rater"
    assert "reserved" in reason(table[5]) and reason(table[6]) == "was rated by this person before; the first time counts"
    assert reason(table[-1]) == "ends at 9 s; labels are used from 15 s on" and "99_1" not in load_dataset("merp", tmp_path).mean
    said = sorted(p.message for p in report.problems)
    assert len(said) == 4 and all("1 of 452 rows, first song" in text for text in said)


def test_another_scale_and_another_layout_are_said(tmp_path):
    table = [row | {"arousal": row["arousal"] * 100} for row in rows()]
    problem = check("merp", write(tmp_path, table), labels_only=True).problems[0]
    assert problem.kind == "scale" and "off the scale [-1, 1]" in problem.message and "[-100, 100]" in problem.message
    table = [{"song_id": "a", "rater_id": "b", "arousal": 0.1, "valence": 0.2} for _ in range(5)]
    report = check("merp", write(tmp_path, table), labels_only=True)
    assert "5 of 5 rows, first song a, rater b: arousal or valence is no list" in report.problems[0].message
    with pytest.raises(DsamlError, match=r"no track can be used; 'python -m dsaml check --dataset merp"):
        load_dataset("merp", tmp_path)
    (tmp_path / FILES["merp"]).write_bytes(b"PAR1")
    with pytest.raises(DsamlError, match="cannot be read as Parquet"):
        load_dataset("merp", tmp_path)
    with pytest.raises(DsamlError, match=r"annotations_filtered.parquet: the file is missing; 'python -m dsaml fetch merp DIR'"):
        load_dataset("merp-filtered", tmp_path)
